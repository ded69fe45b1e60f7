"""The base classes of temperatures."""

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

    @classmethod
    def equal(cls, temperature):
        """One T for both models, a scalar or `(..., 1)`, with the weight T²."""
        is_scalar = not len(temperature.shape)
        per_sample = temperature if is_scalar else temperature[..., 0]
        return cls(temperature, temperature, per_sample * per_sample)


class Temperature(FitHooks, HyperparameterMixin):
    """Base of all temperatures.

    A subclass overrides `call(student_logits, teacher_logits)`, both of shape
    `(..., classes)` and float32, and returns `TemperaturePair`. What is learned or
    changes with time is an ordinary weight of the layer. Temperatures are computed in
    float32 whatever the models compute in. One that couples the rows of a batch takes a
    further argument `sample_weight=None`: the weight of each row, `(...)` with the mask
    in it, or `None` where all count the same.

    Example:

    >>> class Certain(Temperature):
    ...     def call(self, student_logits, teacher_logits):
    ...         top = ops.max(ops.softmax(teacher_logits), axis=-1, keepdims=True)
    ...         t = ops.stop_gradient(1.0 + 3.0 * top)
    ...         return TemperaturePair(t, t, t[..., 0] ** 2)
    """

    # In batches of fewer samples it is the same for all.
    min_batch_size = 1

    def __init__(self, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.supports_masking = True
        # Otherwise Keras would take the whole Distiller for unbuilt.
        if type(self).build is keras.layers.Layer.build:
            self.built = True

    def call(self, student_logits, teacher_logits):
        """The temperatures of these logits."""
        raise NotImplementedError(
            f"`{type(self).__name__}` must override `call(student_logits, "
            "teacher_logits)` and return `TemperaturePair`."
        )

    def __call__(self, student_logits, teacher_logits, sample_weight=None, **kwargs):
        is_batch_coupled = "sample_weight" in inspect.signature(self.call).parameters
        if sample_weight is not None and is_batch_coupled:
            kwargs["sample_weight"] = sample_weight
        pair = super().__call__(student_logits, teacher_logits, **kwargs)
        self._validate(pair, student_logits)
        return pair

    def _validate(self, pair, logits):
        """The contract of `call`, for a temperature of the user's own."""
        if not isinstance(pair, tuple) or len(pair) != 3:
            raise TypeError(
                f"`{type(self).__name__}`: `call` must return a `TemperaturePair` of "
                f"the student's, the teacher's and the weight. Returned: {pair!r}."
            )
        rank = len(logits.shape)
        for role, value in zip(("student", "teacher"), pair[:2], strict=True):
            shape = tuple(getattr(value, "shape", ()))
            if shape and (len(shape) != rank or shape[-1] != 1):
                raise ValueError(
                    f"`{type(self).__name__}`: the {role}'s temperature has the shape "
                    f"{shape}. Beside logits of shape {tuple(logits.shape)} it is a "
                    "scalar, or has a last axis of 1: `keepdims=True`, or "
                    "`value[..., None]`."
                )
        shape = tuple(getattr(pair[2], "shape", ()))
        if shape and len(shape) != rank - 1:
            raise ValueError(
                f"`{type(self).__name__}`: the weight has the shape {shape}. Beside "
                f"logits of shape {tuple(logits.shape)} it is a scalar, or has one "
                "axis less, without the classes: `weight[..., 0]`."
            )

    def __setattr__(self, name, value):
        if name == "temperature" and not hasattr(type(self), name):
            raise ValueError(
                f"`{type(self).__name__}` has no single temperature to be set. Change "
                "its own numbers, or use another temperature."
            )
        super().__setattr__(name, value)

    def variables_without_weight_decay(self):
        """The trainable variables that weight decay must leave alone."""
        return []

    def compute_mask(self, inputs, previous_mask):
        """None: a mask is read at the student's output and nowhere else."""

    def on_epoch_begin(self, epoch, epochs):
        """Called before each epoch. Assign here what changes with time."""
        self.push_hyperparameters()


class DerivedTemperature(Temperature):
    """Base of the temperatures that are computed from another one, `self._base`."""

    def __init__(self, temperature, **kwargs):
        super().__init__(**kwargs)
        self._base = get(temperature)

    @property
    def temperature(self):
        """The base `Temperature`. Set it to a number to change its temperature."""
        return self._base

    @temperature.setter
    def temperature(self, value):
        self._base.temperature = value

    def on_epoch_begin(self, epoch, epochs):
        super().on_epoch_begin(epoch, epochs)
        self._base.on_epoch_begin(epoch, epochs)

    def variables_without_weight_decay(self):
        return self._base.variables_without_weight_decay()


def get(value):
    """A `Temperature` from a positive number, a `Temperature` or its configuration.

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
