"""A training run's hyperparameters as data, and the objects built from them."""

import copy
import dataclasses
import math

import keras

from keras_dtkd import losses, views
from keras_dtkd.core import arguments
from keras_dtkd.distiller import Distiller
from keras_dtkd.recipes.config import from_config, rescale_epochs
from keras_dtkd.recipes.sgd import TorchSGD
from keras_dtkd.recipes.student_outputs import gives_logits
from keras_dtkd.recipes.tables import NUM_TRAINING_SAMPLES
from keras_dtkd.teachers import Ensemble, Pruned


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """The hyperparameters of a training run, as plain data.

    `recipes.get` gives those of the papers. `dataclasses.replace(recipe,
    learning_rate=0.1)` changes a value, `scaled_to` changes the number of epochs.

    Args:
        method: Name of the method.
        epochs: Number of epochs.
        batch_size: Samples per training step.
        learning_rate: Initial learning rate.
        momentum: In [0, 1].
        weight_decay: L2 weight decay of every trainable weight, see `TorchSGD`.
        milestones: Epochs, counted from 1, at whose first step the learning rate is
            multiplied by `lr_decay_factor`.
        lr_decay_factor: Positive.
        task_weight: Weight of the loss on the labels. 1 without a teacher.
        distillation_losses: By name, each `{"class": ..., "arguments": {...}}` of a
            class in `keras_dtkd.losses`, or of your own, `"my.py:Squared"`. A
            temperature among the arguments has the same form. Empty for the student
            without a teacher.
        views: By name, in the same form, of `keras_dtkd.views`.
        pruning: `{"rate": ..., "weight": ...}` if the teacher is averaged with its
            pruned copy: the fraction of its weights set to zero in the copy, and the
            weight of the unpruned teacher in the average. `None` for the teacher as
            it is.
        calibrate: Whether `calibrate_output_bias` must be called after `fit`. The
            caller of `fit` does that.
        data: Name of the data set.
        teacher: Name of the teacher, or `None`.
        student: Name of the student, or `None`.
        source: Where these numbers are published.

    Raises:
        ValueError: A number out of its range, or an unknown class.

    Example:
    >>> recipe = recipes.get("kd", "resnet56", "resnet20").scaled_to(epochs=24)
    >>> distiller = recipe.build_distiller(teacher, student)
    >>> distiller.fit(x, y, batch_size=recipe.batch_size, epochs=recipe.epochs)
    """

    method: str
    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float
    milestones: tuple
    lr_decay_factor: float
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
        # Copies: a frozen recipe must not change through the caller's dicts.
        for name in ("distillation_losses", "views", "pruning"):
            object.__setattr__(self, name, copy.deepcopy(getattr(self, name)))
        object.__setattr__(self, "milestones", tuple(self.milestones))
        for name in ("epochs", "batch_size"):
            arguments.check_positive_int("Recipe", name, getattr(self, name))
        for name in ("learning_rate", "lr_decay_factor"):
            arguments.check_in_range("Recipe", name, getattr(self, name), 0, math.inf)
        for name in ("weight_decay", "task_weight", "momentum"):
            value, high = getattr(self, name), 1 if name == "momentum" else math.inf
            arguments.check_in_range("Recipe", name, value, 0, high, inclusive=True)
        for epoch in self.milestones:
            arguments.check_positive_int("Recipe", "milestones", epoch)
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError(
                "`Recipe`: `milestones` must be in ascending order. Received: "
                f"milestones={self.milestones!r}."
            )
        for name, module in (("distillation_losses", losses), ("views", views)):
            for config in getattr(self, name).values():
                from_config(config, module, only_validate=True)
        if not self.distillation_losses and self.task_weight != 1:
            raise ValueError(
                "`Recipe`: without distillation losses the student trains without a "
                "teacher, and `task_weight` must be 1. Received: "
                f"task_weight={self.task_weight!r}."
            )
        if self.pruning is not None and set(self.pruning) != {"rate", "weight"}:
            raise ValueError(
                "`Recipe`: `pruning` must be None or a dict with the keys 'rate' and "
                f"'weight'. Received: pruning={self.pruning!r}."
            )

    def scaled_to(self, epochs):
        """This recipe for another number of epochs.

        Milestones, warm-ups and the epochs of a curriculum change in proportion;
        `"auto"`, the learning rate and the batch size do not change. Milestones are
        whole epochs, so in very short runs some coincide, or lie after the last epoch.
        The `source` notes the scaling.

        Raises:
            ValueError: `epochs` is not an integer of at least 1.
        """
        epochs = arguments.check_positive_int("Recipe", "epochs", epochs)
        if epochs == self.epochs:
            return self

        def scale(value):
            return value * epochs / self.epochs

        note = f"Scaled from {self.epochs} to {epochs} epochs."
        return dataclasses.replace(
            self,
            epochs=epochs,
            milestones=tuple(1 + round(scale(m - 1)) for m in self.milestones),
            distillation_losses=rescale_epochs(self.distillation_losses, scale),
            source=f"{self.source} {note}".lstrip(),
        )

    def build_optimizer(self, steps_per_epoch=None):
        """A `TorchSGD` with the recipe's learning rate schedule.

        Args:
            steps_per_epoch: Batches per epoch. `None` for all of CIFAR-100; required
                for other data and for a subset, because the milestones are counted in
                steps.

        Raises:
            ValueError: No `steps_per_epoch`, and the size of the data set is unknown.
        """
        if steps_per_epoch is None:
            num_samples = NUM_TRAINING_SAMPLES.get(self.data)
            if num_samples is None:
                raise ValueError(
                    "`Recipe`: the number of training samples of the data set "
                    f"{self.data!r} is unknown. Give `steps_per_epoch=`, the number of "
                    "batches per epoch."
                )
            steps_per_epoch = math.ceil(num_samples / self.batch_size)
        arguments.check_positive_int("Recipe", "steps_per_epoch", steps_per_epoch)
        # The last step at the previous rate, steps counted from 0.
        boundaries = [(epoch - 1) * steps_per_epoch - 1 for epoch in self.milestones]
        first, factor = float(self.learning_rate), self.lr_decay_factor
        rates = [first * factor**i for i in range(len(boundaries) + 1)]
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay
        rate = schedule(boundaries, rates) if boundaries else first
        return TorchSGD(rate, self.momentum, weight_decay=self.weight_decay)

    def build_losses(self):
        """The distillation losses by name, as `Distiller` takes them."""
        configs = self.distillation_losses
        return {name: from_config(config, losses) for name, config in configs.items()}

    def build_distiller(self, teacher, student, steps_per_epoch=None):
        """Builds the model to train, compiled for integer labels.

        Args:
            teacher: A `keras.Model`, or what else `Distiller` takes. Ignored by a
                recipe without distillation losses.
            student: A `keras.Model` with logits or probabilities as outputs: as its
                layers show it, else its outputs for random inputs, for which it must be
                built.
            steps_per_epoch: Batches per epoch, see `build_optimizer`.

        Returns:
            A `Distiller`; the student itself without distillation losses.

        Raises:
            ValueError: The student ends with a sigmoid; or it is not built, and its
                layers do not show whether it gives logits or probabilities.
        """
        model = student
        if self.distillation_losses:
            if self.pruning is not None:
                weight = self.pruning["weight"]
                pruned = Pruned(teacher, self.pruning["rate"])
                teacher = Ensemble([teacher, pruned], [weight, 1 - weight])
            model = Distiller(
                teacher,
                student,
                self.build_losses(),
                task_weight=self.task_weight,
                views={n: from_config(view, views) for n, view in self.views.items()},
            )
        is_logits = gives_logits(student)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=is_logits)
        optimizer = self.build_optimizer(steps_per_epoch)
        model.compile(optimizer, loss, metrics=["accuracy"])
        return model

    def to_dict(self):
        """The recipe as a dict of plain data, a copy, for `json.dump`."""
        return {**dataclasses.asdict(self), "milestones": list(self.milestones)}

    @classmethod
    def from_dict(cls, data):
        """The recipe of a dict from `to_dict`; a `TypeError` for other fields."""
        return cls(**data)
