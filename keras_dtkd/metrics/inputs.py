"""Conversion of a metric's inputs: outputs to logits, masks to sample weights."""

from keras import ops

from keras_dtkd.core import logits, masking


def to_logits(outputs, from_logits="auto"):
    """Converts logits or probabilities to logits with one value per class.

    Args:
        outputs: `(batch, ..., classes)`, or `(batch, ..., 1)` for two classes.
        from_logits: Whether they are logits or probabilities. `"auto"`: probabilities
            if all lie in [0, 1] and every sample sums to 1; a single output is assumed
            to be a logit.

    Returns:
        float32, `(batch, ..., classes)`; for a single output `(batch, ..., 2)`, the
        negative class first.
    """
    outputs = ops.convert_to_tensor(outputs)
    if outputs.shape[-1] == 1:
        return logits.to_logits(
            outputs, logits.BINARY if from_logits else logits.SIGMOID
        )
    if from_logits != "auto":
        return logits.to_logits(
            outputs, logits.LOGITS if from_logits else logits.SOFTMAX
        )
    log_probs = logits.to_logits(outputs, logits.SOFTMAX)
    unchanged = logits.to_logits(outputs, logits.LOGITS)
    return ops.where(_look_like_probabilities(outputs), log_probs, unchanged)


def _look_like_probabilities(outputs):
    """Like `keras_dtkd.core.logits.look_like_probabilities`, for compiled steps."""
    p = ops.cast(outputs, "float32")
    in_range = ops.logical_and(ops.all(p >= 0), ops.all(p <= 1))
    return ops.logical_and(in_range, ops.all(ops.abs(ops.sum(p, axis=-1) - 1) < 0.01))


def check_from_logits(metric, value):
    """Returns the value, or raises a `ValueError` if it is no bool and not `"auto"`."""
    if value not in (True, False, "auto"):
        raise ValueError(
            f"`{type(metric).__name__}`: `from_logits` must be True, False or 'auto'. "
            f"Received: from_logits={value!r}."
        )
    return value


def row_weights(outputs, sample_weight=None):
    """Combines sample weights and the mask of the outputs.

    Args:
        outputs: The student's, `(batch, ..., classes)`. Their mask is applied.
        sample_weight: `(batch,)` or `(batch, ...)`, without the axis of classes.
            Optional.

    Returns:
        float32, `(batch, ...)`; all ones without weights and mask.
    """
    # Lists have no mask, and conversion may drop the mask of a tensor.
    mask = masking.get_mask(outputs) if hasattr(outputs, "shape") else None
    outputs = ops.convert_to_tensor(outputs)
    weights = masking.row_weights(outputs, sample_weight, mask)
    if weights is None:
        return ops.ones_like(outputs[..., 0], dtype="float32")
    return weights


def check_temperature(metric, value):
    """Returns the temperature as a float.

    Raises:
        ValueError: It is not a finite positive number.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 < number < float("inf"):
        raise ValueError(
            f"`{type(metric).__name__}`: `temperature` must be a finite positive "
            f"number. Received: temperature={value!r}."
        )
    return number
