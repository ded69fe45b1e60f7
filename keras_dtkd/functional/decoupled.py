"""A distribution split at the label: whether it is, and what the others share."""

from keras import ops

from keras_dtkd.functional.statistics import LOWEST, soften


def label_or_not(logits, temperature, label):
    """How likely the label is, and all else together.

    Args:
        logits: `(..., classes)`.
        temperature: Scalar, or `(..., 1)`. Positive.
        label: One-hot, of the logits' shape.

    Returns:
        `log (p_y, 1 − p_y)`, softened, `(..., 2)`. In log space, so that a sure model
        has a finite second.
    """
    log_probs = soften(logits, temperature)
    is_label = ops.sum(label * log_probs, axis=-1)
    # The sum of all is 1: softened logits are normalised.
    is_not = ops.logsumexp(_without(log_probs, label), axis=-1)
    return ops.stack([is_label, is_not], axis=-1)


def others(logits, temperature, label):
    """The other classes among themselves.

    Args:
        logits: `(..., classes)`.
        temperature: Scalar, or `(..., 1)`. Positive.
        label: One-hot, of the logits' shape.

    Returns:
        Their softened log-probabilities, with nothing for the label, `(..., classes)`.
    """
    return soften(_without(logits, label), temperature)


def _without(logits, label):
    return ops.where(label > 0, LOWEST, logits)
