"""A distribution split into its target class and the others (DKD)."""

from keras import ops

from keras_dtkd.functional.statistics import MIN_LOGIT, soft_log_probs


def target_log_probs(logits, temperature, label):
    """Log-probabilities of the target class and of all others together.

    Args:
        logits: `(..., classes)`.
        temperature: Scalar, or `(..., 1)`. Positive.
        label: One-hot, of the logits' shape.

    Returns:
        `log (p_y, 1 − p_y)`, softened, `(..., 2)`. Computed in log space, so that the
        second is finite for a confident model.
    """
    log_probs = soft_log_probs(logits, temperature)
    target = ops.sum(label * log_probs, axis=-1)
    # Softened logits are normalized: the probabilities sum to 1.
    non_target = ops.logsumexp(_mask_target(log_probs, label), axis=-1)
    return ops.stack([target, non_target], axis=-1)


def non_target_log_probs(logits, temperature, label):
    """Log-probabilities among the non-target classes, softened, `(..., classes)`.

    The target's probability is 0. Arguments are those of `target_log_probs`.
    """
    return soft_log_probs(_mask_target(logits, label), temperature)


def _mask_target(logits, label):
    return ops.where(label > 0, MIN_LOGIT, logits)
