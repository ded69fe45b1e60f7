"""Correlations of two arrays `(..., classes)`, per sample and per class.

Samples are all axes except the classes, so positions of sequences are samples too.
Along the classes each sample is by itself. Over the samples of a class the batch is
coupled, and weights count as frequencies: a sample of weight 2 equals that sample
twice, and one of weight 0 is ignored.
"""

from keras import ops

from keras_dtkd.functional.statistics import MIN_LOGIT, is_unmasked

# The authors of DIST, CSKD and R2KD all add this to the product of the norms.
EPSILON = 1e-8
# The square root has no gradient at 0. Negligible for any norm that float32 can
# distinguish from 0.
SQRT_EPSILON = 1e-30


def cosine(x, y, axis=-1, weights=None):
    """Cosine similarity (uncentered correlation), `Σ w x y / (‖x‖ ‖y‖ + 1e-8)`.

    Args:
        x, y: Of one shape.
        axis: The axis, or axes, to correlate along.
        weights: Weight of each entry, broadcastable to `x`. Equal by default.

    Returns:
        The shape of `x` without these axes. 0 where a norm is 0.
    """

    def norm(z):
        return ops.sqrt(_sum(z * z, axis, weights) + SQRT_EPSILON)

    return _sum(x * y, axis, weights) / (norm(x) * norm(y) + EPSILON)


def pearson(x, y, axis=-1, weights=None):
    """Pearson correlation: the `cosine` of `x` and `y` minus their means.

    Arguments and shapes are those of `cosine`. 0 where `x` or `y` is constant.
    """

    def center(z):
        # Twice: the rounding error left of a constant would have a direction.
        for _ in range(2):
            z = z - _mean(z, axis, weights, keepdims=True)
        return z

    return cosine(center(x), center(y), axis, weights)


def soft_probs(logits, temperature):
    """Softened probabilities, to full float32 precision.

    Computed from log-probabilities, a hundred equal classes would lose two bits, and
    correlations are of small differences between large numbers.

    Args:
        logits: `(..., classes)`; `-inf` counts as `-1e9`.
        temperature: Scalar, or `(..., 1)`. Positive.

    Returns:
        `softmax(z / T)`, of the same shape.
    """
    logits = ops.maximum(logits, MIN_LOGIT)
    top = ops.stop_gradient(ops.max(logits, axis=-1, keepdims=True))
    return ops.softmax((logits - top) / temperature, axis=-1)


def unmasked_by_any(student_logits, teacher_logits):
    """Classes that at least one of the models does not mask out.

    The student has to learn to exclude a class that only the teacher masks out.

    Args:
        student_logits, teacher_logits: `(..., classes)`.

    Returns:
        Booleans of the same shape.
    """
    return ops.logical_or(is_unmasked(student_logits), is_unmasked(teacher_logits))


def inter_class_distance(measure, x, y, where):
    """1 minus the correlation along the classes, per sample.

    Args:
        measure: `cosine` or `pearson`.
        x, y: `(..., classes)`.
        where: Booleans, `(..., classes)`: the classes to include.

    Returns:
        `(...)`.
    """
    return 1.0 - measure(x, y, -1, ops.cast(where, x.dtype))


def intra_class_distance(measure, x, y, where, weights=None):
    """1 minus the correlation over the samples of a class, averaged over classes.

    Args:
        measure: `cosine` or `pearson`.
        x, y: `(..., classes)`.
        where: Booleans, `(..., classes)`: the classes to include.
        weights: Weight of each sample, `(...)`. Optional.

    Returns:
        A scalar. 0 where all weights are 0.
    """
    axes = tuple(range(len(x.shape) - 1))
    entry_weights = ops.cast(where, x.dtype)
    if weights is not None:
        entry_weights = entry_weights * weights[..., None]
    distance = 1.0 - measure(x, y, axes, entry_weights)
    is_weighted = ops.sum(entry_weights, axis=axes) > 0
    return _mean(distance, -1, ops.cast(is_weighted, x.dtype))


def batch_weight(weight, sample_weight=None):
    """The weight of a term that couples the batch: T² where T is constant.

    Args:
        weight: `TemperaturePair.weight`, a scalar or `(...)`. Not negative.
        sample_weight: Weight of each sample, `(...)`. Optional.

    Returns:
        The square of the mean over the batch of the weight's root, a scalar:
        `(mean T_i)²` where each sample has its own temperature.
    """
    root = ops.sqrt(ops.convert_to_tensor(weight, "float32") + SQRT_EPSILON)
    axes = tuple(range(len(root.shape)))
    return ops.square(_mean(root, axes, sample_weight if axes else None))


def _sum(values, axis, weights, keepdims=False):
    if weights is not None:
        values = weights * values
    return ops.sum(values, axis=axis, keepdims=keepdims)


def _mean(values, axis, weights, keepdims=False):
    if weights is None:
        return ops.mean(values, axis=axis, keepdims=keepdims)
    total = ops.sum(weights * ops.ones_like(values), axis=axis, keepdims=keepdims)
    total = ops.where(total > 0, total, 1.0)
    return _sum(values, axis, weights, keepdims) / total
