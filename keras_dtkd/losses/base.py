"""What a distillation loss is."""

import inspect
import re
from typing import Any, NamedTuple

import keras

from keras_dtkd.core.arguments import is_finite_number
from keras_dtkd.core.hooks import FitHooks
from keras_dtkd.core.hyperparameters import Hyperparameter, HyperparameterMixin
from keras_dtkd.core.masking import get_mask, row_weights
from keras_dtkd.losses import reduction
from keras_dtkd.losses.requirements import check_requirements
from keras_dtkd.temperatures.base import Temperature


class LossValues(NamedTuple):
    """What a loss gives of a batch.

    Attributes:
        values: One value a sample, `(batch,)` or `(batch, ...)`.
        temperatures: The `TemperaturePair` that is logged, or `None`.
    """

    values: Any
    temperatures: Any = None


class DistillationLoss(FitHooks, HyperparameterMixin):
    """Base of all distillation losses.

    A loss on logits overrides `call(student_logits, teacher_logits, labels=None)` and
    returns one value a sample. A loss that needs more overrides `compute(step)`. A loss
    that couples the samples of a batch returns its value broadcast to `(batch,)`, and
    takes a further argument `sample_weight=None`: how much each row counts in its
    statistics, `(batch, ...)` with the mask in it, or `None` where all count the same.
    Under JAX its batch is the global one; under `tf.distribute` and `torch.distributed`
    it is that of each replica.
    Losses compute in float32 whatever the models compute in; trainable parts are
    ordinary weights, which train with the student and are saved with it.

    A number that `callbacks.HyperparameterSchedule` may change is declared in the class
    (`margin = keras_dtkd.Hyperparameter(minimum=0.0)`), set in `__init__` and read in
    `call` as `self.hyperparameter("margin")`: a compiled step keeps the first value of
    a plain attribute.

    The mean temperatures of a `temperature` attribute are logged. A loss with one may
    take a further argument `return_temperatures=False` and return
    `LossValues(values, temperatures)` where it is true: else its temperatures are
    computed a second time for the logs.

    Args:
        weight: Factor of this loss in the total. Not negative. May be changed while
            training runs.
        warmup_epochs: The factor grows linearly to its full size over so many epochs:
            `min(epoch / warmup_epochs, 1)`, epochs counted from 1. `0` for none,
            `"auto"` for a twelfth of the epochs of the `fit`.
        name: Its name in the logs. The class's name unless given.
        view: Name of the Distiller's view that it compares the models on; `None` for
            the batch as it is. On a view there are no labels.
        output: Name or index of the models' output that it compares; `None` for the
            Distiller's `output`. It gets the labels and sample weights of that output.

    Attributes:
        student_layers: Names of student layers whose outputs `step.student_features`
            must hold.
        teacher_layers: Names of teacher layers, for `step.teacher_features`.
        needs_labels: Whether it needs labels.
        input_gradient: Estimator of `step.student_input_gradient` and its teacher's,
            see `InputGradientAlignment`; `None` where they are not needed.
        input_gradient_labels: Whose labels the cross-entropy is of: `"data"`, or
            `"teacher"` for its first choices.
        teacher_input_gradient: Whether the teacher's is needed too.
        multilabel: Whether a linear output is a choice of yes or no for each label.
        compares_outputs: Whether it compares the models' outputs. One that does not
            needs no `output`, also where there are several or they cannot be compared:
            its step then has no logits, and the labels as the data has them.
        compares_classes: Whether it takes outputs for a choice among classes, which
            those of a regression are not.
        compares_boxes: Whether it compares the boxes of detectors, which need the same
            encoding.
        min_batch_size: With fewer samples in a batch it, or a part of it, is 0.
        counts_positions: Whether positions of sequences are samples to it.

    Raises:
        TypeError: `view` is no name, or `output` is neither name nor index.
        ValueError: A negative `weight` or `warmup_epochs`.

    Example:

    >>> class Squared(DistillationLoss):
    ...     def call(self, student_logits, teacher_logits, labels=None):
    ...         return ops.mean((student_logits - teacher_logits) ** 2, axis=-1)
    >>> Distiller(teacher, student, Squared(weight=0.1)).fit(x, y)
    """

    weight = Hyperparameter(minimum=0.0)
    student_layers = ()
    teacher_layers = ()
    needs_labels = False
    multilabel = False
    compares_outputs = True
    compares_classes = False
    compares_boxes = False
    min_batch_size = 1
    counts_positions = True
    input_gradient: Any = None
    input_gradient_labels: Any = "data"
    teacher_input_gradient = True

    # The step that its weights were built from, as `keras.KerasTensor`s.
    step_spec: Any = None

    def __init__(
        self, weight=1.0, warmup_epochs=0, name=None, view=None, output=None, **kwargs
    ):
        kwargs.setdefault("dtype", "float32")
        # Keras would number the name (`kd_1`), and the number would be in the logs.
        super().__init__(name=name or snake_case(type(self).__name__), **kwargs)
        self.supports_masking = True
        self.weight = weight
        self.warmup_epochs = warmup_epochs
        if view is not None and not isinstance(view, str):
            raise TypeError(
                f"`{type(self).__name__}`: `view` is the name of one of the "
                f"Distiller's views. Received: view={view!r}. Give the view itself to "
                "the Distiller: `Distiller(..., views={'strong': view})`."
            )
        self.view = view
        if not isinstance(output, str | int | None) or isinstance(output, bool):
            raise TypeError(
                f"`{type(self).__name__}`: `output` must be the name or the index of "
                f"an output. Received: output={output!r}."
            )
        self.distilled_output = output
        self._warmup_factor = self.add_weight(
            (), "ones", dtype="float32", trainable=False, name="warmup_factor"
        )
        if type(self).build is keras.layers.Layer.build:
            self.built = True

    @property
    def warmup_epochs(self):
        """Epochs until the full weight: a number, or `"auto"`."""
        return self._warmup_epochs

    @warmup_epochs.setter
    def warmup_epochs(self, value):
        is_auto = isinstance(value, str) and value == "auto"
        if not is_auto and not (is_finite_number(value) and value >= 0):
            raise ValueError(
                f"`{type(self).__name__}`: `warmup_epochs` must be 'auto' or a number "
                f"of at least 0. Received: warmup_epochs={value!r}."
            )
        self._warmup_epochs = value

    def call(self, student_logits, teacher_logits, labels=None):
        """One value a sample, `(batch,)`, or `(batch, time)` for sequences."""
        raise NotImplementedError(
            f"`{type(self).__name__}` must override `call(student_logits, "
            "teacher_logits, labels=None)` or `compute(step)`."
        )

    def build_from_step(self, step):
        """Makes weights that depend on the models, such as a projector. Optional.

        Called once before the first training step, with a step of real data, and when
        a Distiller is loaded, with zeros of the same shapes and no teacher: the weights
        may depend on shapes and dtypes alone.

        Args:
            step: A `keras_dtkd.Step`.
        """

    @property
    def builds_from_step(self):
        """Whether its class overrides `build_from_step`."""
        return type(self).build_from_step is not DistillationLoss.build_from_step

    @property
    def takes_step(self):
        """Whether its class overrides `compute`."""
        return type(self).compute is not DistillationLoss.compute

    def compute(self, step):
        """One value a sample, from a `Step`. For more than logits and labels."""
        return self.compute_with_temperatures(step).values

    def compute_with_temperatures(self, step):
        """The `LossValues` of a `Step`."""
        if self.takes_step:
            values = self.compute(step)
        elif self.needs_labels and step.y is None:
            raise ValueError(f"`{self.name}` needs labels, and there are none.")
        else:
            values = self._call_with_supported_arguments(
                step.student_logits,
                step.teacher_logits,
                None if keras.tree.is_nested(step.y) else step.y,
                step.sample_weight,
                return_temperatures=True,
            )
        self._validate(
            values.values if isinstance(values, LossValues) else values,
            step.student_logits,
        )
        if isinstance(values, LossValues):
            return values
        temperatures = self.get_temperatures()
        if not temperatures:
            return LossValues(values)
        student = step.student_logits
        weights = row_weights(student, step.sample_weight, get_mask(student))
        return LossValues(
            values, temperatures[0](student, step.teacher_logits, weights)
        )

    def task_sample_weight(self, x, columns, y, sample_weight):
        """The weights of the loss on the labels, in training. Unchanged by default.

        Called in the training step, for each loss with what the one before it
        returned; `evaluate` and the metrics know the data's own weights alone.

        Args:
            x: The batch of inputs, as the models take it.
            columns: As in a `Step`.
            y: The labels, nested where there are several.
            sample_weight: Their weights, or `None`.
        """
        return sample_weight

    def _validate(self, values, logits):
        """The contract of `call` and `compute`, for a loss of the user's own."""
        shape = tuple(getattr(values, "shape", ()))
        if shape and (logits is None or shape[0] in (None, logits.shape[0])):
            return
        beside = "" if logits is None else f" beside logits {tuple(logits.shape)}"
        raise ValueError(
            f"`{type(self).__name__}`: it returned values of shape {shape}{beside}. "
            "Return one value a sample, `(batch,)`: a mean over the "
            "classes (`axis=-1`), not over the batch, or a value of the whole batch "
            "times `ops.ones((batch,))`."
        )

    def _call_with_supported_arguments(
        self,
        student_logits,
        teacher_logits,
        labels=None,
        sample_weight=None,
        return_temperatures=False,
    ):
        accepted = inspect.signature(self.call).parameters
        kwargs = {}
        if "labels" in accepted:
            kwargs["labels"] = labels
        if "sample_weight" in accepted:
            kwargs["sample_weight"] = row_weights(
                student_logits, sample_weight, get_mask(student_logits)
            )
        if return_temperatures and "return_temperatures" in accepted:
            kwargs["return_temperatures"] = True
        return self(student_logits, teacher_logits, **kwargs)

    reduce = staticmethod(reduction.reduce)

    @property
    def effective_weight(self):
        """`weight · warmup factor`, the factor in the total, as a tensor."""
        return self.hyperparameter("weight") * self._warmup_factor

    def issues(self, context):
        """What this loss needs and cannot have. An override adds to it."""
        return check_requirements(self, context)

    def on_epoch_begin(self, epoch, epochs):
        """Sets the warm-up factor, and what changes in its temperatures."""
        self.push_hyperparameters()
        warmup = epochs / 12 if self.warmup_epochs == "auto" else self.warmup_epochs
        self._warmup_factor.assign(min(epoch / warmup, 1.0) if warmup > 0 else 1.0)
        for temperature in self.get_temperatures():
            temperature.on_epoch_begin(epoch, epochs)

    def chunked_arguments(self):
        """How `functional.chunked.chunked_divergence` computes this loss.

        Returns:
            Its keyword arguments, and as `"weight"` a factor of its value; `None` for a
            loss that it does not know.
        """
        return None

    def get_temperatures(self):
        """The `Temperature`s whose means are logged."""
        temperature = getattr(self, "temperature", None)
        return [temperature] if isinstance(temperature, Temperature) else []

    def variables_without_weight_decay(self):
        """The trainable variables that weight decay must leave alone."""
        return [
            v
            for temperature in self.get_temperatures()
            for v in temperature.variables_without_weight_decay()
        ]

    def compute_mask(self, inputs, previous_mask):
        """None: a mask is read at the student's output and nowhere else."""

    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        """Called by `keras.distillation.Distiller`, with logits `(..., classes)`.

        Returns `weight · warmup factor · mean`, without sample weights.
        """
        values = self._call_with_supported_arguments(student_outputs, teacher_outputs)
        if isinstance(values, LossValues):
            values = values.values
        return self.effective_weight * self.reduce(values, student_outputs)

    def validate_outputs(self, teacher_outputs, student_outputs):
        """Called by `keras.distillation.Distiller`; refuses more than one output."""
        shapes: list = [
            getattr(o, "shape", ()) for o in (teacher_outputs, student_outputs)
        ]
        if not all(shapes) or shapes[0][-1] != shapes[1][-1]:
            raise ValueError(
                f"`{type(self).__name__}` in `keras.distillation.Distiller` needs one "
                "output of logits from each model, with the same classes. Received "
                f"shapes: teacher {shapes[0]}, student {shapes[1]}."
            )

    def validate_model_compatibility(self, teacher, student):
        """Called by `keras.distillation.Distiller`; refuses a loss without `call`."""
        if type(self).call is DistillationLoss.call:
            more = "more than outputs" if self.input_gradient is None else "the inputs"
            raise ValueError(
                f"`{type(self).__name__}` needs {more}, which "
                "`keras.distillation.Distiller` does not give its losses. Train with "
                "`keras_dtkd.Distiller`."
            )

    def get_config(self):
        # Keras's layers have an `output` of their own.
        return {**super().get_config(), "output": self.distilled_output}


def snake_case(name):
    """`ClassName` as `class_name`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
