"""What a metric makes of a model's outputs: logits, and how much each row counts."""

from keras import ops

from keras_dtkd.core import logits, masking


def to_logits(outputs, from_logits="auto"):
    """Logits of classes, whatever the outputs are.

    Args:
        outputs: `(batch, ..., classes)`; or `(batch, ..., 1)`, a choice of two.
        from_logits: Whether they are logits, or probabilities. `"auto"`: probabilities
            where all lie in [0, 1] and every row sums to 1; a single output does not
            tell, and is taken for a logit.

    Returns:
        float32, `(batch, ..., classes)`; of a single output `(batch, ..., 2)`, the
        first for "no".
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
    z, log_p = (logits.to_logits(outputs, h) for h in (logits.LOGITS, logits.SOFTMAX))
    return ops.where(_look_like_probabilities(outputs), log_p, z)


def _look_like_probabilities(outputs):
    """As `keras_dtkd.core.logits.look_like_probabilities`, inside a compiled step."""
    p = ops.cast(outputs, "float32")
    inside = ops.logical_and(ops.all(p >= 0), ops.all(p <= 1))
    return ops.logical_and(inside, ops.all(ops.abs(ops.sum(p, axis=-1) - 1) < 0.01))


def check_from_logits(owner, value):
    """Raises a ValueError where it is neither a truth value nor `"auto"`."""
    if value not in (True, False, "auto"):
        raise ValueError(
            f"`{type(owner).__name__}`: `from_logits` must be True, False or 'auto'. "
            f"Received: from_logits={value!r}."
        )
    return value


def row_weights(outputs, sample_weight=None):
    """How much each row counts.

    Args:
        outputs: The student's, `(batch, ..., classes)`. Their mask is honoured.
        sample_weight: `(batch,)`, or with as many axes as the outputs less the
            classes. Optional.

    Returns:
        float32, `(batch, ...)`; 1 for each row without weights or mask.
    """
    # A list has no mask, and a tensor may lose its own when it is converted.
    mask = masking.get_mask(outputs) if hasattr(outputs, "shape") else None
    outputs = ops.convert_to_tensor(outputs)
    found = masking.row_weights(outputs, sample_weight, mask)
    return ops.ones_like(outputs[..., 0], dtype="float32") if found is None else found


def check_temperature(owner, value):
    """The temperature as a float.

    Raises:
        ValueError: It is no finite number above 0.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 < number < float("inf"):
        raise ValueError(
            f"`{type(owner).__name__}`: `temperature` must be a finite number above 0. "
            f"Received: temperature={value!r}."
        )
    return number
