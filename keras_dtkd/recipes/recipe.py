"""A run's hyper-parameters as data, and the objects that are built from them."""

import copy
import dataclasses
import math
from typing import Any

import keras

from keras_dtkd import losses, views
from keras_dtkd.core import logits
from keras_dtkd.distiller import Distiller
from keras_dtkd.recipes import checks
from keras_dtkd.recipes.config import make, rescaled
from keras_dtkd.recipes.sgd import TorchSGD
from keras_dtkd.recipes.tables import TRAINING_SAMPLES
from keras_dtkd.teachers import Ensemble, Pruned


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a run is made of: plain data, nothing built.

    `recipes.get` gives the papers'. `dataclasses.replace(recipe, learning_rate=0.1)`
    changes one, `scaled` shortens one.

    Args:
        method: Name of the method.
        epochs: Epochs of the `fit`.
        batch_size: Samples of a step.
        learning_rate: At the start.
        momentum: In [0, 1].
        weight_decay: Coupled, on every trainable weight, see `CoupledSGD`.
        milestones: Epochs, counted from 1, with whose first step the learning rate is
            multiplied by `factor`.
        factor: Positive.
        task_weight: Factor of the loss on the labels. 1 without a teacher.
        distillation_losses: By name, each `{"class": ..., "arguments": {...}}` of a
            class in `keras_dtkd.losses`; a temperature among the arguments likewise.
            Empty for the student alone.
        views: By name, likewise of `keras_dtkd.views`.
        pruning: `{"rate": ..., "weight": ...}` where the teacher is averaged with
            its pruned copy: the share of its weights that the copy loses, and the
            weight of the whole one. `None` for the teacher as it is.
        calibrate: Whether `calibrate_output_bias` must follow the `fit`. Whoever
            calls `fit` does that.
        data: Name of the data set.
        teacher: Name of the teacher, or `None`.
        student: Name of the student, or `None`.
        source: Where these numbers are written.

    Raises:
        ValueError: A number out of its range, a class that there is not.

    Example:

    >>> recipe = recipes.get("kd", "resnet56", "resnet20").scaled(epochs=24)
    >>> distiller = recipe.distiller(teacher, student)
    >>> distiller.fit(x, y, batch_size=recipe.batch_size, epochs=recipe.epochs)
    """

    method: str
    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float
    milestones: tuple
    factor: float
    task_weight: float = 1.0
    distillation_losses: dict = dataclasses.field(default_factory=dict)
    views: dict = dataclasses.field(default_factory=dict)
    pruning: dict | None = None
    calibrate: bool = False
    data: str = "cifar100"
    teacher: str | None = None
    student: str | None = None
    source: str = ""

    def __post_init__(self):
        # Nobody else may hold what is inside of a frozen recipe.
        for name in ("distillation_losses", "views", "pruning"):
            object.__setattr__(self, name, copy.deepcopy(getattr(self, name)))
        object.__setattr__(self, "milestones", tuple(self.milestones))
        checks.numbers_and_classes(self)

    def scaled(self, epochs):
        """This recipe for another number of epochs.

        Milestones, warm-ups and the epochs of a curriculum change in proportion,
        `"auto"` stays; learning rate and batch do not change. Milestones are whole
        epochs, so in very short runs some coincide, or lie beyond the end.

        Args:
            epochs: A whole number of at least 1.

        Returns:
            A `Recipe` whose `source` says so; this one if it has as many epochs.

        Raises:
            ValueError: `epochs` is no whole number of at least 1.
        """
        checks.whole("epochs", epochs)
        epochs = int(epochs)
        if epochs == self.epochs:
            return self

        def scale(value):
            return value * epochs / self.epochs

        return dataclasses.replace(
            self,
            epochs=epochs,
            milestones=tuple(1 + round(scale(m - 1)) for m in self.milestones),
            distillation_losses=rescaled(self.distillation_losses, scale),
            source=f"{self.source} Scaled from {self.epochs} to {epochs} "
            "epochs.".lstrip(),
        )

    def optimizer(self, steps_per_epoch=None):
        """SGD with the schedule, a rate for each step.

        Args:
            steps_per_epoch: Batches of an epoch. `None` for all of CIFAR-100; give it
                for other data and for a part of it, or the rate falls at the wrong
                time.

        Returns:
            A `CoupledSGD`.

        Raises:
            ValueError: No `steps_per_epoch`, and the size of the data is not known.
        """
        if steps_per_epoch is None:
            samples = TRAINING_SAMPLES.get(self.data)
            if samples is None:
                raise ValueError(
                    f"`Recipe`: how many samples {self.data!r} has is not known here. "
                    "Give `steps_per_epoch=`, the number of batches of an epoch."
                )
            steps_per_epoch = math.ceil(samples / self.batch_size)
        checks.whole("steps_per_epoch", steps_per_epoch)
        rate: Any = float(self.learning_rate)
        if self.milestones:
            rate = keras.optimizers.schedules.PiecewiseConstantDecay(
                # The last step of the old rate, steps counted from 0.
                [(epoch - 1) * steps_per_epoch - 1 for epoch in self.milestones],
                [rate * self.factor**i for i in range(len(self.milestones) + 1)],
            )
        return TorchSGD(rate, momentum=self.momentum, weight_decay=self.weight_decay)

    def losses(self):
        """The distillation losses, newly made.

        Returns:
            A dict of names, as `Distiller` takes it; empty for the student alone.
        """
        specs = self.distillation_losses
        return {name: make(spec, losses) for name, spec in specs.items()}

    def distiller(self, teacher, student, steps_per_epoch=None):
        """The model to be trained, compiled for integer labels.

        Args:
            teacher: A `keras.Model`, or what `Distiller` takes. Not used for the
                student alone.
            student: A `keras.Model` of logits or probabilities.
            steps_per_epoch: See `optimizer`.

        Returns:
            A `Distiller`; the student itself if it trains alone.
        """
        model, options = student, dict[str, Any]()
        if self.distillation_losses:
            if self.pruning is not None:
                weight = self.pruning["weight"]
                pruned = Pruned(teacher, self.pruning["rate"])
                teacher = Ensemble([teacher, pruned], [weight, 1 - weight])
            options["views"] = {n: make(s, views) for n, s in self.views.items()}
            options["task_weight"] = self.task_weight
            model = Distiller(teacher, student, self.losses(), **options)
        probabilities = logits.infer_output_kind(student) == logits.SOFTMAX
        model.compile(
            optimizer=self.optimizer(steps_per_epoch),
            loss=keras.losses.SparseCategoricalCrossentropy(
                from_logits=not probabilities
            ),
            metrics=["accuracy"],
        )
        return model

    def to_dict(self):
        """The recipe for `json.dump`.

        Returns:
            A dict of plain data, a copy.
        """
        return {**dataclasses.asdict(self), "milestones": list(self.milestones)}

    @classmethod
    def from_dict(cls, data):
        """A recipe again.

        Args:
            data: What `to_dict` gave.

        Returns:
            An equal `Recipe`.

        Raises:
            ValueError: Fields are missing, or unknown.
        """
        fields = dataclasses.fields(cls)
        known = {field.name for field in fields}
        missing = known - set(data)
        unknown = set(data) - known
        if missing or unknown:
            raise ValueError(
                f"`Recipe.from_dict`: missing: {_names(missing)}; unknown: "
                f"{_names(unknown)}. Give what `to_dict` gave."
            )
        return cls(**data)


def _names(names):
    return ", ".join(sorted(names)) or "none"
