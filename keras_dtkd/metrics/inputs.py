"""Conversion of a metric's inputs: outputs to logits, masks to sample weights."""

from keras import ops

from keras_dtkd.core import logits, masking
from keras_dtkd.core.logits import OutputKind

# Values of the argument `from_logits`.
FROM_LOGITS = True, False, "auto"


def to_logits(outputs, from_logits="auto"):
    """Logits or probabilities as float32 logits with one value per class.

    `"auto"` takes them for probabilities if all lie in [0, 1] and every sample sums to
    1, and a single output for a logit. A single output becomes two classes, the
    negative one first.
    """
    outputs = ops.convert_to_tensor(outputs)
    if outputs.shape[-1] == 1:
        output_kind = OutputKind.BINARY_LOGITS if from_logits else OutputKind.SIGMOID
        return logits.to_logits(outputs, output_kind)
    if from_logits != "auto":
        output_kind = OutputKind.LOGITS if from_logits else OutputKind.SOFTMAX
        return logits.to_logits(outputs, output_kind)
    log_probs = logits.to_logits(outputs, OutputKind.SOFTMAX)
    unchanged = logits.to_logits(outputs, OutputKind.LOGITS)
    return ops.where(_look_like_probabilities(outputs), log_probs, unchanged)


def _look_like_probabilities(outputs):
    """Like `keras_dtkd.core.logits.look_like_probabilities`, for compiled steps."""
    p = ops.cast(outputs, "float32")
    in_range = ops.logical_and(ops.all(p >= 0), ops.all(p <= 1))
    return ops.logical_and(in_range, ops.all(ops.abs(ops.sum(p, axis=-1) - 1) < 0.01))


def row_weights(outputs, sample_weight=None):
    """Sample weights `(batch, ...)` times the mask of the outputs; ones by default."""
    # Lists have no mask, and conversion may drop the mask of a tensor.
    mask = masking.get_mask(outputs) if hasattr(outputs, "shape") else None
    outputs = ops.convert_to_tensor(outputs)
    weights = masking.row_weights(outputs, sample_weight, mask)
    if weights is None:
        return ops.ones_like(outputs[..., 0], dtype="float32")
    return weights


def fill_ignored(outputs, weights):
    """The outputs, with equal classes in rows of weight 0: 0 times NaN is NaN.

    Such rows pass for logits and for probabilities, so that `"auto"` ignores them too.
    """
    outputs = ops.convert_to_tensor(outputs)
    return ops.where(weights[..., None] == 0, 1.0 / outputs.shape[-1], outputs)
