"""How alike two tables `(..., classes)` are: row by row, and class by class.

A row is a sample or a position. Along the classes each row is by itself; down a
class the rows of the batch are coupled, and a row counts by its mass: one of mass 2
as that row twice, one of mass 0 not at all.
"""

from keras import ops

from keras_dtkd.functional.statistics import MIN_LOGIT, is_unmasked

# The authors of DIST, CSKD and R2KD all add this to the product of the norms.
EPSILON = 1e-8
# The root has no slope at 0. Nothing beside any norm that float32 tells from 0.
TINY = 1e-30


def cosine(x, y, axis=-1, masses=None):
    """Uncentred correlation, `Σ m x y / (‖x‖ ‖y‖ + 1e-8)`.

    Args:
        x: Any shape.
        y: The same shape.
        axis: The axis, or axes, to correlate along.
        masses: How much each entry counts, broadcastable to `x`. All the same by
            default.

    Returns:
        Without these axes. 0 where a norm is 0.
    """

    def norm(z):
        return ops.sqrt(_sum(z * z, axis, masses) + TINY)

    return _sum(x * y, axis, masses) / (norm(x) * norm(y) + EPSILON)


def pearson(x, y, axis=-1, masses=None):
    """Pearson's correlation: `cosine` of what is left after the mean.

    Args:
        x: Any shape.
        y: The same shape.
        axis: The axis, or axes, to correlate along.
        masses: How much each entry counts, also in the means. Optional.

    Returns:
        Without these axes. 0 where `x` or `y` is constant.
    """

    def centred(z):
        # Twice: what rounding leaves of a constant would have a direction.
        for _ in range(2):
            z = z - _mean(z, axis, masses, keepdims=True)
        return z

    return cosine(centred(x), centred(y), axis, masses)


def soft_probs(logits, temperature):
    """Softened probabilities, with all the digits that float32 has for them.

    By way of their logarithms a hundred equal classes would lose two bits, and what
    correlates is the small difference of large ones.

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
    """Which classes take part: all but those that both models mask out.

    A class that only the teacher rules out is one that the student has to.

    Args:
        student_logits: `(..., classes)`.
        teacher_logits: `(..., classes)`.

    Returns:
        Booleans of the same shape.
    """
    return ops.logical_or(is_unmasked(student_logits), is_unmasked(teacher_logits))


def inter_class_distance(measure, x, y, where):
    """One less the correlation of each row, along the classes.

    Args:
        measure: `cosine` or `pearson`.
        x: `(..., classes)`.
        y: `(..., classes)`.
        where: Booleans, `(..., classes)`: the classes that count.

    Returns:
        `(...)`.
    """
    return 1.0 - measure(x, y, -1, ops.cast(where, x.dtype))


def intra_class_distance(measure, x, y, where, masses=None):
    """One less the correlation of each class over all rows, averaged over classes.

    Args:
        measure: `cosine` or `pearson`.
        x: `(..., classes)`.
        y: `(..., classes)`.
        where: Booleans, `(..., classes)`: the classes that count.
        masses: How much each row counts, `(...)`. Optional.

    Returns:
        A scalar. 0 where nothing counts.
    """
    rows = tuple(range(len(x.shape) - 1))
    mass = ops.cast(where, x.dtype)
    if masses is not None:
        mass = mass * masses[..., None]
    distance = 1.0 - measure(x, y, rows, mass)
    return _mean(distance, -1, ops.cast(ops.sum(mass, axis=rows) > 0, x.dtype))


def batch_weight(weight, masses=None):
    """The one weight of a term that couples the rows: T² where T is constant.

    Args:
        weight: `Temperatures.weight`, a scalar or `(...)`. Not negative.
        masses: How much each row counts, `(...)`. Optional.

    Returns:
        The square of the mean over rows of the weight's root, a scalar: `(mean T_i)²`
        where each row has its temperature.
    """
    root = ops.sqrt(ops.convert_to_tensor(weight, "float32") + TINY)
    rows = tuple(range(len(root.shape)))
    return ops.square(_mean(root, rows, masses if rows else None))


def _sum(values, axis, masses, keepdims=False):
    if masses is not None:
        values = masses * values
    return ops.sum(values, axis=axis, keepdims=keepdims)


def _mean(values, axis, masses, keepdims=False):
    if masses is None:
        return ops.mean(values, axis=axis, keepdims=keepdims)
    total = ops.sum(masses * ops.ones_like(values), axis=axis, keepdims=keepdims)
    total = ops.where(total > 0, total, 1.0)
    return _sum(values, axis, masses, keepdims) / total
