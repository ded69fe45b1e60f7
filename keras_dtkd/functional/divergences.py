"""Divergences between two categorical distributions, in log space.

Every function takes log-probabilities, never probabilities, and returns one
unreduced value for each distribution, so that a class of probability zero
(log-probability `-inf`, or as small as float32 allows) costs nothing and spoils
no gradient.
"""

import math

from keras import ops

from keras_dtkd.functional.statistics import MIN_LOGIT

CONVENTIONS = ("gkd", "continuous")
# Of a log-probability in float32, wherever the probability matters.
FLOAT32_LOG_PROB_EPS = 4e-6
# Up to this difference of log-probabilities a term of `kl` has its other form.
SERIES_THRESHOLD = 0.5


def kl(teacher_log_probs, student_log_probs, axis=-1):
    """Kullback-Leibler divergence of the student from the teacher, `KL(p ‖ q)`.

    Args:
        teacher_log_probs: Log-probabilities `log p`, shape `(..., classes)`.
        student_log_probs: Log-probabilities `log q`, shape `(..., classes)`.
        axis: The axis of the classes.

    Returns:
        `Σ p (log p − log q)` in nats, shape `(...)`. Not negative but for rounding,
        and 0, with its gradient, where both are equal.

    Reference:
        Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network",
        arXiv 1503.02531. Computed as `Σ q − p − p d` with `d = log q − log p`, the
        same for distributions: no term is negative, so that nothing cancels where
        they are near to each other and a temperature's square is a large factor.
    """
    p, q = ops.exp(teacher_log_probs), ops.exp(student_log_probs)
    # Both logarithms are made finite first: inf - inf would poison the gradient
    # of a class that the teacher rules out.
    log_p = ops.where(p > 0, teacher_log_probs, 0.0)
    d = ops.where(p > 0, student_log_probs, 0.0) - log_p
    near = ops.logical_and(p > 0, ops.abs(d) < SERIES_THRESHOLD)
    small = ops.where(near, d, 0.0)
    terms = ops.where(near, p * (ops.expm1(small) - small), q - p - p * d)
    return ops.sum(terms, axis=axis)


def reverse_kl(teacher_log_probs, student_log_probs, axis=-1):
    """Divergence of the teacher from the student, `KL(q ‖ p)`: mode seeking.

    Args:
        teacher_log_probs: Log-probabilities `log p`, shape `(..., classes)`.
        student_log_probs: Log-probabilities `log q`, shape `(..., classes)`.
        axis: The axis of the classes.

    Returns:
        `Σ q (log q − log p)` in nats, shape `(...)`.
    """
    return kl(student_log_probs, teacher_log_probs, axis=axis)


def jsd(teacher_log_probs, student_log_probs, axis=-1):
    """Jensen-Shannon divergence, the mean divergence of both from their mixture.

    Args:
        teacher_log_probs: Log-probabilities `log p`, shape `(..., classes)`.
        student_log_probs: Log-probabilities `log q`, shape `(..., classes)`.
        axis: The axis of the classes.

    Returns:
        `½ KL(p ‖ m) + ½ KL(q ‖ m)` with `m = (p + q) / 2`, in nats, shape `(...)`,
        between 0 and `log 2`.

    Reference:
        Lin, "Divergence measures based on the Shannon entropy", 1991.
    """
    # As in `kl`: where both are impossible, the mixture's -inf - (-inf) is undefined.
    possible = ops.isfinite(ops.maximum(teacher_log_probs, student_log_probs))
    log_p = ops.where(possible, teacher_log_probs, MIN_LOGIT)
    log_q = ops.where(possible, student_log_probs, MIN_LOGIT)
    # Not `logaddexp`, whose gradient is wrong at ties on TensorFlow.
    mixture = ops.logsumexp(ops.stack([log_p, log_q]), axis=0) - math.log(2.0)
    return 0.5 * (
        kl(teacher_log_probs, mixture, axis) + kl(student_log_probs, mixture, axis)
    )


def generalized_jsd(
    teacher_log_probs, student_log_probs, beta=0.5, convention="gkd", axis=-1
):
    """Generalized Jensen-Shannon divergence, with the mixture `m = β p + (1 − β) q`.

    - `"gkd"`: `β KL(p ‖ m) + (1 − β) KL(q ‖ m)`, but `KL(p ‖ q)` at β = 0 and
      `KL(q ‖ p)` at β = 1. It falls to 0 towards both ends (as β `KL(p ‖ q)` at the
      first) and jumps at them: β = 0.99 teaches next to nothing, β = 1 much.
    - `"continuous"`: `(1 − β) KL(p ‖ m) + β KL(q ‖ m)`, the weights exchanged, which
      goes from `KL(p ‖ q)` at β = 0 to `KL(q ‖ p)` at β = 1 without a jump.

    At β = ½ both are `jsd`.

    Args:
        teacher_log_probs: Log-probabilities `log p`, shape `(..., classes)`.
        student_log_probs: Log-probabilities `log q`, shape `(..., classes)`.
        beta: β, a Python number from 0 to 1.
        convention: `"gkd"` or `"continuous"`.
        axis: The axis of the classes.

    Returns:
        The divergence in nats, shape `(...)`.

    Raises:
        ValueError: `beta` is not in [0, 1], or the convention is unknown.

    Reference:
        Agarwal et al., "On-Policy Distillation of Language Models", arXiv 2306.13649,
        equation 1, which is `"gkd"` between its ends. The ends are those of TRL's
        `GKDTrainer`. The other convention is ours in this form; ms-swift exchanges
        the weights likewise.
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
    possible = ops.isfinite(ops.maximum(teacher_log_probs, student_log_probs))
    log_p = ops.where(possible, teacher_log_probs, MIN_LOGIT)
    log_q = ops.where(possible, student_log_probs, MIN_LOGIT)
    # No `logaddexp`: where both terms are equal, its gradient under TensorFlow is
    # that of one alone.
    mixture = ops.logsumexp(
        ops.stack([log_p + math.log(beta), log_q + math.log1p(-beta)]), axis=0
    )
    of_teacher = beta if convention == "gkd" else 1 - beta
    return of_teacher * kl(teacher_log_probs, mixture, axis) + (1 - of_teacher) * kl(
        student_log_probs, mixture, axis
    )


def total_variation(teacher_log_probs, student_log_probs, axis=-1):
    """Total variation distance: the most that any event's probabilities differ by.

    Args:
        teacher_log_probs: Log-probabilities `log p`, shape `(..., classes)`.
        student_log_probs: Log-probabilities `log q`, shape `(..., classes)`.
        axis: The axis of the classes.

    Returns:
        `½ Σ |p − q|`, shape `(...)`, between 0 and 1. Its gradient jumps where a
        class changes sides, and is 0 for a class with `p = q` up to rounding.
    """
    # The sign of a rounding error would be a gradient of full size.
    apart = ops.abs(teacher_log_probs - student_log_probs) > FLOAT32_LOG_PROB_EPS
    difference = ops.exp(teacher_log_probs) - ops.exp(student_log_probs)
    return 0.5 * ops.sum(ops.abs(ops.where(apart, difference, 0.0)), axis=axis)


DIVERGENCES = {"kl": kl, "reverse_kl": reverse_kl, "jsd": jsd}


def get(name):
    """The divergence of that name.

    Args:
        name: `"kl"`, `"reverse_kl"` or `"jsd"`.

    Returns:
        A function `(teacher_log_probs, student_log_probs, axis=-1) → values`.

    Raises:
        ValueError: No divergence has that name.
    """
    if name not in DIVERGENCES:
        raise ValueError(
            f"Unknown divergence. Received: divergence={name!r}. Known: "
            f"{', '.join(map(repr, DIVERGENCES))}."
        )
    return DIVERGENCES[name]
