"""A training run's hyperparameters as data, and the objects built from them."""

import copy
import dataclasses
import math
from typing import Any

import keras

from keras_dtkd import losses, views
from keras_dtkd.core import arguments, logits
from keras_dtkd.core.logits import OutputKind
from keras_dtkd.distiller import Distiller
from keras_dtkd.recipes.config import from_config, rescale_epochs, validate_config
from keras_dtkd.recipes.sgd import TorchSGD
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
            class in `keras_dtkd.losses`. A temperature among the arguments has the
            same form. Empty for the student without a teacher.
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
        for name in ("weight_decay", "task_weight"):
            value = getattr(self, name)
            arguments.check_in_range("Recipe", name, value, 0, inclusive=True)
        arguments.check_in_range(
            "Recipe", "momentum", self.momentum, 0, 1, inclusive=True
        )
        for epoch in self.milestones:
            arguments.check_positive_int("Recipe", "milestones", epoch)
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError(
                "`Recipe`: `milestones` must be in ascending order. Received: "
                f"milestones={self.milestones!r}."
            )
        for name, module in (("distillation_losses", losses), ("views", views)):
            for config in getattr(self, name).values():
                validate_config(config, module)
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

        Args:
            epochs: An integer of at least 1.

        Returns:
            A `Recipe`, with the scaling noted in its `source`; this one if it has that
            number of epochs.

        Raises:
            ValueError: `epochs` is not an integer of at least 1.
        """
        epochs = arguments.check_positive_int("Recipe", "epochs", epochs)
        if epochs == self.epochs:
            return self

        def scale(value):
            return value * epochs / self.epochs

        return dataclasses.replace(
            self,
            epochs=epochs,
            milestones=tuple(1 + round(scale(m - 1)) for m in self.milestones),
            distillation_losses=rescale_epochs(self.distillation_losses, scale),
            source=f"{self.source} Scaled from {self.epochs} to {epochs} "
            "epochs.".lstrip(),
        )

    def build_optimizer(self, steps_per_epoch=None):
        """SGD with the recipe's learning rate schedule.

        Args:
            steps_per_epoch: Batches per epoch. `None` for all of CIFAR-100; required
                for other data and for a subset, because the milestones are counted in
                steps.

        Returns:
            A `TorchSGD`.

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
        learning_rate: Any = float(self.learning_rate)
        if self.milestones:
            learning_rate = keras.optimizers.schedules.PiecewiseConstantDecay(
                # The last step at the previous rate, steps counted from 0.
                [(epoch - 1) * steps_per_epoch - 1 for epoch in self.milestones],
                [
                    learning_rate * self.lr_decay_factor**i
                    for i in range(len(self.milestones) + 1)
                ],
            )
        return TorchSGD(
            learning_rate, momentum=self.momentum, weight_decay=self.weight_decay
        )

    def build_losses(self):
        """Builds the distillation losses.

        Returns:
            A dict of losses by name, as `Distiller` takes it; empty for the student
            without a teacher.
        """
        configs = self.distillation_losses
        return {name: from_config(config, losses) for name, config in configs.items()}

    def build_distiller(self, teacher, student, steps_per_epoch=None):
        """Builds the model to train, compiled for integer labels.

        Args:
            teacher: A `keras.Model`, or what else `Distiller` takes. Ignored by a
                recipe without distillation losses.
            student: A `keras.Model` with logits or probabilities as outputs.
            steps_per_epoch: Batches per epoch, see `build_optimizer`.

        Returns:
            A `Distiller`; the student itself without distillation losses.
        """
        model, options = student, dict[str, Any]()
        if self.distillation_losses:
            if self.pruning is not None:
                weight = self.pruning["weight"]
                pruned = Pruned(teacher, self.pruning["rate"])
                teacher = Ensemble([teacher, pruned], [weight, 1 - weight])
            options["views"] = {
                name: from_config(config, views) for name, config in self.views.items()
            }
            options["task_weight"] = self.task_weight
            model = Distiller(teacher, student, self.build_losses(), **options)
        has_softmax = logits.infer_output_kind(student) == OutputKind.SOFTMAX
        model.compile(
            optimizer=self.build_optimizer(steps_per_epoch),
            loss=keras.losses.SparseCategoricalCrossentropy(
                from_logits=not has_softmax
            ),
            metrics=["accuracy"],
        )
        return model

    def to_dict(self):
        """The recipe as plain data, for `json.dump`.

        Returns:
            A dict, independent of the recipe.
        """
        return {**dataclasses.asdict(self), "milestones": list(self.milestones)}

    @classmethod
    def from_dict(cls, data):
        """Builds a recipe from plain data.

        Args:
            data: Output of `to_dict`.

        Returns:
            An equal `Recipe`.

        Raises:
            TypeError: A missing or unknown field.
        """
        return cls(**data)
