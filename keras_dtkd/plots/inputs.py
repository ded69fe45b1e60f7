"""What the plots are given, as NumPy and checked."""

import numpy as np
from keras import ops

from keras_dtkd.core import arrays
from keras_dtkd.core.logits import look_like_probabilities
from keras_dtkd.functional import statistics
from keras_dtkd.metrics.inputs import to_logits
from keras_dtkd.temperatures import base


def numbers(value):
    """float64 of any library's tensor."""
    if hasattr(value, "detach"):
        # NumPy has no bfloat16.
        value = value.detach().double()
    return np.asarray(arrays.to_numpy(value), "float64")


def pair(who, student_logits, teacher_logits):
    """Both models' logits, float32, `(rows, classes)`.

    Raises:
        ValueError: They differ in shape, have no axis of classes or no row, hold NaN,
            or look like probabilities.
    """
    given = {"student_logits": student_logits, "teacher_logits": teacher_logits}
    found = {name: numbers(value) for name, value in given.items()}
    shapes = [array.shape for array in found.values()]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"`{who}`: `student_logits` have the shape {shapes[0]} and "
            f"`teacher_logits` {shapes[1]}. Give both for the same samples."
        )
    for name, array in found.items():
        check_outputs(who, name, array, from_logits=True)
    return [_rows(numbers(to_logits(a)).astype("float32")) for a in found.values()]


def check_outputs(who, name, array, from_logits):
    """Raises a ValueError where an array cannot be what it is said to be."""
    if array.ndim < 2 or not array.size:
        raise ValueError(
            f"`{who}`: {name} must have the shape (samples, ..., classes) and at least "
            f"one sample. Received: shape {array.shape}."
        )
    if np.isnan(array).any():
        raise ValueError(f"`{who}`: {name} hold NaN.")
    if from_logits and look_like_probabilities(array):
        raise ValueError(
            f"`{who}`: {name} look like probabilities: they lie in [0, 1] and sum to "
            "1. Give logits: `keras_dtkd.core.logits.to_logits(p, 'softmax')` makes them."
        )
    if not from_logits and (array.min() < 0 or array.max() > 1.01):
        raise ValueError(
            f"`{who}`: {name} are no probabilities: they lie between "
            f"{array.min():.3g} and {array.max():.3g}. Pass `from_logits=True`."
        )


def labels(who, value, shape):
    """Labels in rows: integers `(rows,)`, or `(rows, classes)` if given so.

    Args:
        who: The plot that asks.
        value: The labels: `(...)`, `(..., 1)`, or one number a class.
        shape: Of the outputs they belong to, `(..., classes)`.

    Raises:
        ValueError: They do not fit that shape.
    """
    array = numbers(value)
    if array.shape in (shape[:-1], (*shape[:-1], 1)):
        return array.reshape(-1)
    if array.shape == shape:
        return _rows(array)
    raise ValueError(
        f"`{who}`: labels of shape {array.shape} do not fit outputs of shape {shape}. "
        f"Give integers of shape {shape[:-1]}, or one number for each class."
    )


def chosen(rule, student, teacher):
    """The temperatures a rule gives, a row each.

    Args:
        rule: Any rule, or a positive number.
        student: Logits, `(rows, classes)`.
        teacher: Likewise.

    Returns:
        The student's and the teacher's, NumPy `(rows,)`.
    """
    rule = base.get(rule)
    found = rule(ops.convert_to_tensor(student), ops.convert_to_tensor(teacher))
    rows = (len(student), 1)
    return [np.broadcast_to(numbers(side), rows)[:, 0] for side in found[:2]]


def softened(logits, temperature):
    """Probabilities and entropies in nats at a temperature, `(rows, 1)` or a number."""
    given = (ops.convert_to_tensor(v, "float32") for v in (logits, temperature))
    log_p = numbers(statistics.soft_log_probs(*given))
    p = np.exp(log_p)
    return p, -(p * log_p).sum(-1)


def _rows(array):
    return array.reshape(-1, array.shape[-1])
