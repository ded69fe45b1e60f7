"""What a metric makes of a model's outputs: logits, and how much each row counts."""

from keras import ops

from keras_dtkd import logits
from keras_dtkd.masses import mask_of, masses


def recovered(outputs, from_logits=True):
    """Logits of classes, whatever the outputs are.

    Args:
        outputs: `(batch, ..., classes)`; or `(batch, ..., 1)`, a choice of two.
        from_logits: Whether they are logits, or probabilities.

    Returns:
        float32, `(batch, ..., classes)`; of a single output `(batch, ..., 2)`, the
        first for "no".
    """
    outputs = ops.convert_to_tensor(outputs)
    if outputs.shape[-1] == 1:
        return logits.recover(outputs, logits.BINARY if from_logits else logits.SIGMOID)
    return logits.recover(outputs, logits.LOGITS if from_logits else logits.SOFTMAX)


def counts(outputs, sample_weight=None):
    """How much each row counts.

    Args:
        outputs: The student's, `(batch, ..., classes)`. Their mask is honoured.
        sample_weight: `(batch,)`, or with as many axes as the outputs less the
            classes. Optional.

    Returns:
        float32, `(batch, ...)`; 1 for each row without weights or mask.
    """
    # A list has no mask, and a tensor may lose its own when it is converted.
    mask = mask_of(outputs) if hasattr(outputs, "shape") else None
    outputs = ops.convert_to_tensor(outputs)
    found = masses(outputs, sample_weight, mask)
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
