"""A distribution split at the label: whether it is, and what the others share."""

from keras import ops

from keras_dtkd.functional.statistics import MIN_LOGIT, soft_log_probs


def target_log_probs(logits, temperature, label):
    """How likely the label is, and all else together.

    Args:
        logits: `(..., classes)`.
        temperature: Scalar, or `(..., 1)`. Positive.
        label: One-hot, of the logits' shape.

    Returns:
        `log (p_y, 1 − p_y)`, softened, `(..., 2)`. In log space, so that a sure model
        has a finite second.
    """
    log_probs = soft_log_probs(logits, temperature)
    is_label = ops.sum(label * log_probs, axis=-1)
    # The sum of all is 1: softened logits are normalised.
    is_not = ops.logsumexp(_mask_target(log_probs, label), axis=-1)
    return ops.stack([is_label, is_not], axis=-1)


def non_target_log_probs(logits, temperature, label):
    """The other classes among themselves.

    Args:
        logits: `(..., classes)`.
        temperature: Scalar, or `(..., 1)`. Positive.
        label: One-hot, of the logits' shape.

    Returns:
        Their softened log-probabilities, with nothing for the label, `(..., classes)`.
    """
    return soft_log_probs(_mask_target(logits, label), temperature)


def _mask_target(logits, label):
    return ops.where(label > 0, MIN_LOGIT, logits)
