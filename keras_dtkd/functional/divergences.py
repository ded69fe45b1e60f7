"""Divergences between two categorical distributions, in log space.

Every function takes log-probabilities, never probabilities, and returns one
unreduced value for each distribution. A class of probability 0 (log-probability
`-inf`, or as small as float32 allows) adds nothing to the value and leaves the gradient
finite.
"""

import math

from keras import ops

from keras_dtkd.functional.scalars import make_scalar
from keras_dtkd.functional.statistics import MIN_LOGIT

CONVENTIONS = ("gkd", "continuous")
# Rounding error of a float32 log-probability, for probabilities that are not tiny.
FLOAT32_LOG_PROB_EPS = 4e-6
# Below this difference of log-probabilities a term of `kl` is computed by `expm1`.
SERIES_THRESHOLD = 0.5


def kl(teacher_log_probs, student_log_probs, axis=-1):
    """Kullback-Leibler divergence of the student from the teacher, `KL(p ‖ q)`.

    Args:
        teacher_log_probs, student_log_probs: `log p` and `log q`, `(..., classes)`.
        axis: The axis of the classes.

    Returns:
        `Σ p (log p − log q)` in nats, of shape `(...)`. Not negative except for
        rounding. Value and gradient are 0 where both are equal.

    Reference:
        Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network",
        arXiv 1503.02531. Computed as `Σ q − p − p d` with `d = log q − log p`, which is
        equal for distributions: no term is negative, so that nothing cancels where the
        two are close and the square of a temperature is a large factor.
    """
    p, q = ops.exp(teacher_log_probs), ops.exp(student_log_probs)
    # Both logarithms are made finite first: inf - inf would make the gradient NaN for
    # a class of teacher probability 0.
    zero = make_scalar(0.0, p)
    log_p = ops.where(p > 0, teacher_log_probs, zero)
    d = ops.where(p > 0, student_log_probs, zero) - log_p
    is_small = ops.logical_and(p > 0, ops.abs(d) < SERIES_THRESHOLD)
    small_d = ops.where(is_small, d, zero)
    terms = ops.where(is_small, p * (ops.expm1(small_d) - small_d), q - p - p * d)
    return ops.sum(terms, axis=axis)


def reverse_kl(teacher_log_probs, student_log_probs, axis=-1):
    """Divergence of the teacher from the student, `KL(q ‖ p)`: mode seeking.

    Arguments and shapes are those of `kl`.
    """
    return kl(student_log_probs, teacher_log_probs, axis=axis)


def jsd(teacher_log_probs, student_log_probs, axis=-1):
    """Jensen-Shannon divergence: the mean divergence of both from their mixture.

    `½ KL(p ‖ m) + ½ KL(q ‖ m)` with `m = (p + q) / 2`, in nats, between 0 and `log 2`.
    Arguments and shapes are those of `kl`.

    Reference:
        Lin, "Divergence measures based on the Shannon entropy", 1991.
    """
    return generalized_jsd(teacher_log_probs, student_log_probs, 0.5, axis=axis)


def generalized_jsd(
    teacher_log_probs, student_log_probs, beta=0.5, convention="gkd", axis=-1
):
    """Generalized Jensen-Shannon divergence, with the mixture `m = β p + (1 − β) q`.

    - `"gkd"`: `β KL(p ‖ m) + (1 − β) KL(q ‖ m)`, but `KL(p ‖ q)` at β = 0 and
      `KL(q ‖ p)` at β = 1, where it jumps.
    - `"continuous"`: `(1 − β) KL(p ‖ m) + β KL(q ‖ m)`, with the same ends and no jump.

    At β = ½ both are `jsd`.

    Args:
        teacher_log_probs: As in `kl`, like `student_log_probs`, `axis` and the result.
        beta: β, a Python number from 0 to 1.
        convention: `"gkd"` or `"continuous"`.

    Raises:
        ValueError: `beta` is not in [0, 1], or the convention is unknown.

    Reference:
        Agarwal et al., arXiv 2306.13649, equation 1. See `losses.GeneralizedJSD`.
    """
    if not 0 <= beta <= 1 or convention not in CONVENTIONS:
        raise ValueError(
            "`beta` must lie in [0, 1], and `convention` be one of "
            f"{', '.join(map(repr, CONVENTIONS))}. Received: beta={beta!r}, "
            f"convention={convention!r}."
        )
    if beta == 0:
        return kl(teacher_log_probs, student_log_probs, axis)
    if beta == 1:
        return reverse_kl(teacher_log_probs, student_log_probs, axis)
    mixture = log_mixture(teacher_log_probs, student_log_probs, beta)
    teacher_share = beta if convention == "gkd" else 1 - beta
    teacher_kl = kl(teacher_log_probs, mixture, axis)
    student_kl = kl(student_log_probs, mixture, axis)
    return teacher_share * teacher_kl + (1 - teacher_share) * student_kl


def log_mixture(teacher_log_probs, student_log_probs, beta):
    """`log(β p + (1 − β) q)`, of the shape of both, for β above 0 and below 1."""
    # Where both are -inf, the mixture's -inf - (-inf) would be NaN.
    is_possible = ops.isfinite(ops.maximum(teacher_log_probs, student_log_probs))
    log_p = ops.where(is_possible, teacher_log_probs, MIN_LOGIT) + math.log(beta)
    log_q = ops.where(is_possible, student_log_probs, MIN_LOGIT) + math.log1p(-beta)
    # Not `logaddexp`, whose gradient is wrong at ties on TensorFlow.
    return ops.logsumexp(ops.stack([log_p, log_q]), axis=0)


def total_variation(teacher_log_probs, student_log_probs, axis=-1):
    """Total variation distance: the maximum difference in the probability of any event.

    `½ Σ |p − q|`, between 0 and 1; arguments and shapes are those of `kl`. Its gradient
    jumps where the sign of `p − q` changes, and is 0 for a class with `p = q` up to
    rounding.
    """
    # The sign of a rounding error would be a gradient of full size.
    differs = ops.abs(teacher_log_probs - student_log_probs) > FLOAT32_LOG_PROB_EPS
    difference = ops.exp(teacher_log_probs) - ops.exp(student_log_probs)
    return 0.5 * ops.sum(ops.abs(ops.where(differs, difference, 0.0)), axis=axis)


DIVERGENCES = {"kl": kl, "reverse_kl": reverse_kl, "jsd": jsd}


def get(name):
    """The function of a divergence by its name, one of `DIVERGENCES`.

    Raises:
        ValueError: Unknown name. The message lists the known ones.
    """
    if name not in DIVERGENCES:
        raise ValueError(
            f"`divergence` must be one of {', '.join(map(repr, DIVERGENCES))}. "
            f"Received: divergence={name!r}."
        )
    return DIVERGENCES[name]
