"""Ranks with a gradient.

`argsort` has none: a loss made of true ranks trains nothing, on any backend.
"""

from keras import ops

from keras_dtkd.functional.statistics import MIN_LOGIT

# Added to the variance of ranks that are divided by their number. That of distinct
# ranks is 1/12; a student whose logits are all but equal is to be moved, not thrown.
EPSILON = 1e-6


def soft_ranks(values, softness=1.0, where=None):
    """Ranks along the last axis, each comparison softened by a sigmoid.

    Args:
        values: `(..., classes)`; `-inf` counts as `-1e9`.
        softness: The difference of two values at which their comparison is 73 %
            decided: a scalar or `(..., 1)`. Positive. The ranks near the true ones
            as it goes to 0.
        where: Optional booleans, `(..., classes)`: the classes that count.

    Returns:
        `½ + Σ_j sigmoid((x_i − x_j) / softness)`, `(..., classes)`: from 1 for the
        least to their number for the greatest; equal values share their mean
        rank. Classes that do not count come back as 0. Takes memory for
        `classes²` numbers a row.
    """
    values = ops.maximum(values, MIN_LOGIT)
    softness = ops.convert_to_tensor(softness, values.dtype)[..., None]
    above = ops.sigmoid((values[..., :, None] - values[..., None, :]) / softness)
    if where is None:
        return 0.5 + ops.sum(above, axis=-1)
    mass = ops.cast(where, values.dtype)
    return mass * (0.5 + ops.sum(above * mass[..., None, :], axis=-1))


def spearman(x_ranks, y_ranks, where=None):
    """Spearman's correlation, of ranks.

    Args:
        x_ranks: `(..., classes)`, see `soft_ranks`.
        y_ranks: `(..., classes)`.
        where: Optional booleans, `(..., classes)`: the classes that count.

    Returns:
        `(c + ε) / sqrt((v_x + ε)(v_y + ε))`, `(...)`, with `c` the covariance and `v`
        the variances of the ranks divided by their number, and `ε = 1e-6`: 1 for
        equal ranks, also where all of them tie, and of bounded slope.
    """
    mass = ops.ones_like(x_ranks) if where is None else ops.cast(where, x_ranks.dtype)
    count = ops.maximum(ops.sum(mass, axis=-1, keepdims=True), 1.0)

    def centred(ranks):
        # Their mean is known: of each pair the two shares are 1.
        return mass * (ranks - 0.5 * (count + 1.0)) / count

    def covariance(a, b):
        return ops.sum(a * b, axis=-1) / count[..., 0] + EPSILON

    a, b = centred(x_ranks), centred(y_ranks)
    return covariance(a, b) / ops.sqrt(covariance(a, a) * covariance(b, b))
