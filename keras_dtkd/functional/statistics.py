"""Statistics of logits, for temperatures, losses and metrics."""

import math

from keras import ops

from keras_dtkd.functional.scalars import make_scalar

# Classes at or below this logit are masked out (padding of a vocabulary): no
# network computes it, and it would dominate every mean.
MASKED_LOGIT = -1e8
# Replaces -inf, which has no gradient. Below any logit a network computes.
MIN_LOGIT = -1e9
# Above any logit a network computes: larger ones have no variance in float32.
MAX_LOGIT = 1e9


def is_unmasked(logits):
    """Classes not masked out by a logit of `-1e8` or less, booleans of their shape."""
    return logits > MASKED_LOGIT


def unmasked_by_both(student_logits, teacher_logits):
    """Classes that neither model masks out, booleans of the logits' shape."""
    return ops.logical_and(is_unmasked(student_logits), is_unmasked(teacher_logits))


def clamp(logits):
    """Logits within ±1e9, where their variance is finite."""
    limits = (make_scalar(limit, logits) for limit in (MIN_LOGIT, MAX_LOGIT))
    return ops.clip(logits, *limits)


def soft_log_probs(logits, temperature=1.0, axis=-1):
    """Log-probabilities of the softened distribution, `log softmax(z / T)`.

    Args:
        logits: `(..., classes)`; `-inf` counts as `-1e9`.
        temperature: Scalar, or `(..., 1)`. Positive.
        axis: The axis of the classes.

    Returns:
        `log p`, of the same shape.
    """
    logits = ops.maximum(logits, make_scalar(MIN_LOGIT, logits))
    # The common shift is subtracted before the division. It cancels in the
    # temperature's gradient, which would lose digits.
    top = ops.stop_gradient(ops.max(logits, axis=axis, keepdims=True))
    return ops.log_softmax((logits - top) / temperature, axis=axis)


def entropy(log_probs, normalized=False, axis=-1):
    """Entropy of a distribution, `−Σ p · log p`.

    Args:
        log_probs: Finite log-probabilities, `(..., classes)`.
        normalized: Whether to divide by its maximum, `log classes`. The entropy of a
            single class is 0.
        axis: The axis of the classes.

    Returns:
        Entropy in nats, or from 0 to 1, of shape `(...)`.
    """
    value = -ops.sum(ops.exp(log_probs) * log_probs, axis=axis)
    classes = log_probs.shape[axis]
    return value / math.log(classes) if normalized and classes > 1 else value


def center(logits, axis=-1, where=None):
    """Logits minus their mean: the same distribution, without a common shift.

    Args:
        logits: `(..., classes)`.
        axis: The axis of the classes.
        where: Optional booleans: the classes to include. The result is 0 for the
            others.

    Returns:
        Centered logits of the same shape.
    """
    if where is None:
        return logits - ops.mean(logits, axis=axis, keepdims=True)
    logits = ops.where(where, logits, make_scalar(0.0, logits))
    class_weights = ops.cast(where, logits.dtype)
    count = ops.sum(class_weights, axis=axis, keepdims=True)
    count = ops.maximum(count, make_scalar(1.0, count))
    mean = ops.sum(logits, axis=axis, keepdims=True) / count
    return (logits - mean) * class_weights


def std(logits, axis=-1, where=None, epsilon=1e-24):
    """Standard deviation of logits over the classes, differentiable at 0.

    Args:
        logits: `(..., classes)`.
        axis: The axis of the classes.
        where: Optional booleans: the classes to include.
        epsilon: Added to the variance, because the root has no gradient at 0.

    Returns:
        `sqrt(variance + epsilon)`, population variance, shape `(..., 1)`.
    """
    squares = ops.square(center(logits, axis=axis, where=where))
    if where is None:
        variance = ops.mean(squares, axis=axis, keepdims=True)
    else:
        count = ops.sum(ops.cast(where, squares.dtype), axis=axis, keepdims=True)
        count = ops.maximum(count, make_scalar(1.0, count))
        variance = ops.sum(squares, axis=axis, keepdims=True) / count
    return ops.sqrt(variance + epsilon)


def sharpness(logits, temperature=1.0, axis=-1):
    """Sharpness of a softened distribution, `log Σ exp(z / T)` of centered logits.

    Args:
        logits: `(..., classes)`.
        temperature: Scalar, or `(..., 1)`. Positive.
        axis: The axis of the classes.

    Returns:
        Sharpness in nats, of shape `(...)`; `log classes` for equal logits. Unlike the
        paper's sharpness of raw logits, it is invariant to a shift of all logits.

    Reference:
        Wei and Bai, "Dynamic Temperature Knowledge Distillation",
        arXiv 2404.12711, equation 2.
    """
    where = is_unmasked(logits)
    scaled = center(logits, axis=axis, where=where) / temperature
    masked = make_scalar(MASKED_LOGIT, scaled)
    return ops.logsumexp(ops.where(where, scaled, masked), axis=axis)


def agreement(student_logits, teacher_logits, axis=-1):
    """Whether student and teacher predict the same class.

    Args:
        student_logits, teacher_logits: `(..., classes)`.
        axis: The axis of the classes.

    Returns:
        1.0 or 0.0, float32, shape `(...)`.
    """
    student, teacher = (ops.argmax(z, axis) for z in (student_logits, teacher_logits))
    return ops.cast(ops.equal(student, teacher), "float32")
