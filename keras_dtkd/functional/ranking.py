"""Ranks with a gradient.

`argsort` has no gradient: a loss of true ranks trains nothing, on any backend.
"""

from keras import ops

from keras_dtkd.functional.statistics import MIN_LOGIT

# Added to the variance of ranks that are divided by their number, which is 1/12 for
# distinct ranks. It bounds the gradient of a student with nearly equal logits.
EPSILON = 1e-6


def soft_ranks(values, rank_temperature=1.0, where=None):
    """Ranks along the last axis, with each comparison softened by a sigmoid.

    Args:
        values: `(..., classes)`; `-inf` counts as `-1e9`.
        rank_temperature: The difference of two values at which the sigmoid of their
            comparison is 0.73: a scalar or `(..., 1)`. Positive. Towards 0 the soft
            ranks approach the true ranks.
        where: Optional booleans, `(..., classes)`: the classes to include.

    Returns:
        `½ + Σ_j sigmoid((x_i − x_j) / rank_temperature)`, `(..., classes)`: from 1 for
        the smallest value to the number of classes for the largest; equal values share
        their mean rank. 0 for classes that are not included. Needs memory for
        `classes²` numbers per sample.
    """
    values = ops.maximum(values, MIN_LOGIT)
    rank_temperature = ops.convert_to_tensor(rank_temperature, values.dtype)[..., None]
    differences = values[..., :, None] - values[..., None, :]
    comparisons = ops.sigmoid(differences / rank_temperature)
    if where is None:
        return 0.5 + ops.sum(comparisons, axis=-1)
    weights = ops.cast(where, values.dtype)
    return weights * (0.5 + ops.sum(comparisons * weights[..., None, :], axis=-1))


def spearman(x_ranks, y_ranks, where=None):
    """Spearman's rank correlation.

    Args:
        x_ranks, y_ranks: Ranks `(..., classes)`, see `soft_ranks`.
        where: Optional booleans, `(..., classes)`: the classes to include.

    Returns:
        `(c + ε) / sqrt((v_x + ε)(v_y + ε))`, `(...)`, with `c` the covariance and `v`
        the variances of the ranks divided by their number, and `ε = 1e-6`: 1 for
        equal ranks, also where all of them tie, and with a bounded gradient.
    """
    weights = ops.ones_like(x_ranks)
    if where is not None:
        weights = ops.cast(where, x_ranks.dtype)
    count = ops.maximum(ops.sum(weights, axis=-1, keepdims=True), 1.0)

    def normalize(ranks):
        # Their mean is known: the two comparisons of each pair sum to 1.
        return weights * (ranks - 0.5 * (count + 1.0)) / count

    def covariance(a, b):
        return ops.sum(a * b, axis=-1) / count[..., 0] + EPSILON

    a, b = normalize(x_ranks), normalize(y_ranks)
    return covariance(a, b) / ops.sqrt(covariance(a, a) * covariance(b, b))
