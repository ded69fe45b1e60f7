"""Divergences between two categorical distributions, in log space.

Every function takes log-probabilities, never probabilities, and returns one
unreduced value for each distribution, so that a class of probability zero
(log-probability `-inf`, or as small as float32 allows) costs nothing and spoils
no gradient.
"""

import math

from keras import ops


def _expectation(log_probs, values, axis):
    """`E[values]` under `log_probs`; classes of probability 0 count nowhere."""
    probs = ops.exp(log_probs)
    return ops.sum(probs * ops.where(probs > 0, values, 0.0), axis=axis)


def kl(teacher_log_probs, student_log_probs, axis=-1):
    """Kullback-Leibler divergence of the student from the teacher, `KL(p ‖ q)`.

    Args:
        teacher_log_probs: Log-probabilities `log p`, shape `(..., classes)`.
        student_log_probs: Log-probabilities `log q`, shape `(..., classes)`.
        axis: The axis of the classes.

    Returns:
        `Σ p (log p − log q)` in nats, shape `(...)`. Not negative but for rounding.

    Reference:
        Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network",
        arXiv 1503.02531.
    """
    # Both logarithms are made finite first: inf - inf would poison the gradient
    # of a class that `_expectation` leaves out.
    possible = ops.isfinite(teacher_log_probs)
    log_p = ops.where(possible, teacher_log_probs, 0.0)
    log_q = ops.where(possible, student_log_probs, 0.0)
    return _expectation(teacher_log_probs, log_p - log_q, axis)


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
    log_p = ops.where(possible, teacher_log_probs, 0.0)
    log_q = ops.where(possible, student_log_probs, 0.0)
    mixture = ops.logaddexp(log_p, log_q) - math.log(2.0)
    return 0.5 * (
        kl(teacher_log_probs, mixture, axis) + kl(student_log_probs, mixture, axis)
    )


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
