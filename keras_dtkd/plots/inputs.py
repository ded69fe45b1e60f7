"""Conversion and validation of the inputs of plots, as NumPy."""

import collections.abc

import numpy as np
from keras import ops

from keras_dtkd.core import arrays
from keras_dtkd.core.logits import look_like_probabilities
from keras_dtkd.functional import statistics
from keras_dtkd.functional.labels import one_hot
from keras_dtkd.metrics.inputs import to_logits


def to_float64(value):
    """Converts a tensor of any library to float64 NumPy."""
    if hasattr(value, "detach"):
        # NumPy does not support bfloat16.
        value = value.detach().double()
    return np.asarray(arrays.to_numpy(value), "float64")


def epochs_of(run, count):
    """The numbers of a run's epochs, from 1. A resumed run's `History` begins later."""
    epochs = getattr(run, "epoch", None)
    if isinstance(epochs, list | tuple) and len(epochs) == count:
        return np.asarray(epochs) + 1
    return np.arange(1, count + 1)


def validate_dict(caller, name, value, example):
    """Raises an error if an argument is no dict, or an empty one."""
    if not isinstance(value, collections.abc.Mapping):
        raise TypeError(
            f"`{caller}`: `{name}` must be a dict, such as {example}. Received: "
            f"{type(value).__name__}."
        )
    if not value:
        raise ValueError(f"`{caller}`: `{name}` is empty. Pass at least one entry.")


def validate_pair(caller, student_logits, teacher_logits):
    """Both models' logits, float32, `(samples, classes)`."""
    student, teacher = to_float64(student_logits), to_float64(teacher_logits)
    if student.shape != teacher.shape:
        raise ValueError(
            f"`{caller}`: `student_logits` have the shape {student.shape} and "
            f"`teacher_logits` {teacher.shape}. Pass both for the same samples."
        )
    validate_outputs(caller, "student_logits", student, from_logits=True)
    validate_outputs(caller, "teacher_logits", teacher, from_logits=True)
    converted = arrays.to_numpy(to_logits(student)), arrays.to_numpy(to_logits(teacher))
    return [array.reshape(-1, array.shape[-1]) for array in converted]


def validate_outputs(caller, name, array, from_logits):
    """Raises a `ValueError` if an array contradicts `from_logits` or has no samples."""
    if array.ndim < 2 or not array.size:
        raise ValueError(
            f"`{caller}`: {name} must have the shape (samples, ..., classes) and at "
            f"least one sample. Received: shape {array.shape}."
        )
    if np.isnan(array).any():
        raise ValueError(f"`{caller}`: {name} contain NaN.")
    if from_logits and look_like_probabilities(array):
        raise ValueError(
            f"`{caller}`: {name} look like probabilities: they lie in [0, 1] and sum "
            "to 1. Pass logits: `keras_dtkd.core.logits.to_logits(p, 'softmax')` "
            "converts them."
        )
    if not from_logits and (array.min() < 0 or array.max() > 1.01):
        raise ValueError(
            f"`{caller}`: {name} are not probabilities: they lie between "
            f"{array.min():.3g} and {array.max():.3g}. Pass `from_logits=True`."
        )


def flatten_labels(caller, value, shape):
    """Integers `(samples,)`, or `(samples, classes)`, for outputs of a shape."""
    array = to_float64(value)
    if array.shape in (shape[:-1], (*shape[:-1], 1)):
        return array.reshape(-1)
    if array.shape == shape:
        return array.reshape(-1, shape[-1])
    raise ValueError(
        f"`{caller}`: labels of shape {array.shape} do not fit outputs of shape "
        f"{shape}. Pass integers of shape {shape[:-1]}, or one number for each class."
    )


def class_indices(caller, labels, outputs, logits):
    """The class of each sample, -1 without a label. Labels are of `outputs`' shape."""
    if labels is None:
        return np.full(len(logits), -1)
    labels = flatten_labels(caller, labels, to_float64(outputs).shape)
    classes = to_float64(one_hot(labels, logits))
    return np.where(classes.any(-1), classes.argmax(-1), -1)


def validate_indices(caller, samples, count):
    """Indices of samples, from 0; a `ValueError` if one is out of range."""
    indices = np.asarray(samples)
    is_valid = indices.ndim == 1 and indices.size and indices.dtype.kind in "iu"
    if not is_valid or indices.min() < -count or indices.max() >= count:
        raise ValueError(
            f"`{caller}`: `samples` must be a number of samples or a list of indices "
            f"between 0 and {count - 1}. Received: samples={samples!r}."
        )
    return indices % count


def temperatures_of(temperature, student, teacher):
    """The student's and the teacher's temperatures, NumPy `(samples,)`."""
    pair = temperature(ops.convert_to_tensor(student), ops.convert_to_tensor(teacher))
    shape = (len(student), 1)
    return [np.broadcast_to(to_float64(side), shape)[:, 0] for side in pair[:2]]


def soft_probs_and_entropy(logits, temperature):
    """Probabilities and entropies, in nats, at a number or `(samples, 1)` numbers."""
    tensors = (ops.convert_to_tensor(v, "float32") for v in (logits, temperature))
    log_probs = to_float64(statistics.soft_log_probs(*tensors))
    probs = np.exp(log_probs)
    return probs, -(probs * log_probs).sum(-1)
