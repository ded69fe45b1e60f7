"""Statistics of logits that temperatures and reports are made of."""

from keras import ops

# Classes at or below this logit are masked out (padding of a vocabulary): no
# network computes it, and it would drown every mean.
MASKED_LOGIT = -1e8
# What -inf becomes, which has no gradient. Below any logit a network computes.
MIN_LOGIT = -1e9


def is_unmasked(logits):
    """Which classes take part: all but those masked out with `-1e9` or `-inf`.

    Args:
        logits: `(..., classes)`.

    Returns:
        Booleans of the same shape.
    """
    return logits > MASKED_LOGIT


def soft_log_probs(logits, temperature=1.0, axis=-1):
    """Log-probabilities of the softened distribution, `log softmax(z / T)`.

    Args:
        logits: `(..., classes)`; `-inf` counts as `-1e9`.
        temperature: Scalar, or `(..., 1)`. Positive.
        axis: The axis of the classes.

    Returns:
        `log p`, of the same shape.
    """
    logits = ops.maximum(logits, MIN_LOGIT)
    # The common shift goes before the division: it would cost the temperature's
    # gradient, in which it cancels, its digits.
    top = ops.stop_gradient(ops.max(logits, axis=axis, keepdims=True))
    return ops.log_softmax((logits - top) / temperature, axis=axis)


def center(logits, axis=-1, where=None):
    """Logits less their mean: the same distribution, free of the common shift.

    Args:
        logits: `(..., classes)`.
        axis: The axis of the classes.
        where: Optional booleans: the classes that count. The others come back
            as 0.

    Returns:
        Centred logits of the same shape.
    """
    if where is None:
        return logits - ops.mean(logits, axis=axis, keepdims=True)
    logits = ops.where(where, logits, 0.0)
    mass = ops.cast(where, logits.dtype)
    count = ops.maximum(ops.sum(mass, axis=axis, keepdims=True), 1.0)
    mean = ops.sum(logits, axis=axis, keepdims=True) / count
    return (logits - mean) * mass


def std(logits, axis=-1, where=None, epsilon=1e-24):
    """Standard deviation of logits over the classes, differentiable at 0.

    Args:
        logits: `(..., classes)`.
        axis: The axis of the classes.
        where: Optional booleans: the classes that count.
        epsilon: Added to the variance, since the root has no slope at 0.

    Returns:
        `sqrt(variance + epsilon)`, population variance, shape `(..., 1)`.
    """
    z = center(logits, axis=axis, where=where)
    if where is None:
        variance = ops.mean(z * z, axis=axis, keepdims=True)
    else:
        count = ops.sum(ops.cast(where, z.dtype), axis=axis, keepdims=True)
        variance = ops.sum(z * z, axis=axis, keepdims=True) / ops.maximum(count, 1.0)
    return ops.sqrt(variance + epsilon)


def sharpness(logits, temperature=1.0, axis=-1):
    """Sharpness of a softened distribution, `log Σ exp(z / T)` of centred logits.

    Args:
        logits: `(..., classes)`.
        temperature: Scalar, or `(..., 1)`. Positive.
        axis: The axis of the classes.

    Returns:
        Sharpness in nats, shape `(...)`; `log classes` for equal logits. Unlike the
        paper's, of raw logits, it is a property of the distribution: a shift of
        all logits changes nothing.

    Reference:
        Wei and Bai, "Dynamic Temperature Knowledge Distillation",
        arXiv 2404.12711, equation 2.
    """
    where = is_unmasked(logits)
    scaled = center(logits, axis=axis, where=where) / temperature
    return ops.logsumexp(ops.where(where, scaled, MASKED_LOGIT), axis=axis)


def agreement(student_logits, teacher_logits, axis=-1):
    """Where the student's first choice is the teacher's.

    Args:
        student_logits: `(..., classes)`.
        teacher_logits: `(..., classes)`.
        axis: The axis of the classes.

    Returns:
        1.0 or 0.0, float32, shape `(...)`.
    """
    return ops.cast(
        ops.equal(
            ops.argmax(student_logits, axis=axis), ops.argmax(teacher_logits, axis=axis)
        ),
        "float32",
    )
