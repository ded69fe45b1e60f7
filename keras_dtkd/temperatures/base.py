"""What a temperature rule is."""

import inspect
from typing import Any, NamedTuple

import keras

from keras_dtkd.core.hooks import FitHooks
from keras_dtkd.core.hyperparameters import HyperparameterMixin


class TemperaturePair(NamedTuple):
    """The temperatures of one batch.

    Attributes:
        student: Divides the student's logits: a scalar or `(..., 1)`. Positive.
        teacher: Divides the teacher's logits, likewise.
        weight: Multiplies the divergence, a scalar or `(...)`: it keeps gradients of
            one size (T² for a constant T, T_s·T_t for `Dynamic`).
    """

    student: Any
    teacher: Any
    weight: Any


class Temperature(FitHooks, HyperparameterMixin):
    """Base of all temperature rules.

    A subclass overrides `call(student_logits, teacher_logits)`, both of shape
    `(..., classes)` and float32, and returns `TemperaturePair`. What is learned or
    changes with time is an ordinary weight of the layer. A rule computes in
    float32 whatever the models compute in. A rule that couples the rows of a batch
    takes a further argument `sample_weight=None`: how much each row counts, `(...)`
    with the mask in it, or `None` where all count the same.

    Example:

    >>> class Certain(Temperature):
    ...     def call(self, student_logits, teacher_logits):
    ...         top = ops.max(ops.softmax(teacher_logits), axis=-1, keepdims=True)
    ...         t = ops.stop_gradient(1.0 + 3.0 * top)
    ...         return TemperaturePair(t, t, t[..., 0] ** 2)
    """

    def __init__(self, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.supports_masking = True
        # A rule without `build` is ready as it is; Keras would otherwise take the
        # whole Distiller for unbuilt.
        if type(self).build is keras.layers.Layer.build:
            self.built = True

    def call(self, student_logits, teacher_logits):
        """The temperatures of these logits."""
        raise NotImplementedError(
            f"`{type(self).__name__}` must override `call(student_logits, "
            "teacher_logits)` and return `TemperaturePair`."
        )

    def __call__(self, student_logits, teacher_logits, sample_weight=None, **kwargs):
        if sample_weight is not None and self._is_batch_coupled():
            kwargs["sample_weight"] = sample_weight
        return super().__call__(student_logits, teacher_logits, **kwargs)

    def __setattr__(self, name, value):
        if name == "temperature" and not hasattr(type(self), name):
            raise ValueError(
                f"`{type(self).__name__}` has no single temperature to be set. Change "
                "its own numbers, or use another rule."
            )
        super().__setattr__(name, value)

    def _is_batch_coupled(self):
        return "sample_weight" in inspect.signature(self.call).parameters

    def variables_without_weight_decay(self):
        """The trainable variables that weight decay must leave alone."""
        return []

    def compute_mask(self, inputs, previous_mask):
        """None: a mask is read at the student's output and nowhere else."""

    def on_epoch_begin(self, epoch, epochs):
        """Called before each epoch. Assign here what changes with time.

        Args:
            epoch: Counted from 1.
            epochs: The last epoch of this `fit`.
        """
        self.push_hyperparameters()


def get(value):
    """A temperature rule from whatever a user may give.

    Args:
        value: A positive number (the same for every sample), a `Temperature`, or
            its serialized configuration.

    Returns:
        A `Temperature`.

    Raises:
        ValueError: The value is none of these.
    """
    from keras_dtkd.temperatures.constant import Constant

    if isinstance(value, Temperature):
        return value
    if isinstance(value, dict):
        return keras.saving.deserialize_keras_object(value)
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(
            "`temperature` must be a positive number or a "
            f"`keras_dtkd.temperatures.Temperature`. Received: temperature={value!r}."
        ) from None
    return Constant(number)
