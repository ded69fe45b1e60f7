"""Logits out of any model's outputs.

A softmax forgets only the constant that all logits may share, and no divergence
or temperature here depends on it (but DTKD's published rule, which says so): the
logarithm of probabilities serves as logits. A sigmoid is a choice between two
classes, and so is a single output.
"""

import keras
import numpy as np
from keras import ops

from keras_dtkd.functional.statistics import LOWEST

LOGITS, SOFTMAX, SIGMOID, BINARY = "logits", "softmax", "sigmoid", "binary logits"
# Lowest probability. Its logarithm is finite, and so is its slope 1/p times the
# gradient of a scaled loss, which the smallest float32 leaves no room for.
TINY = 1e-30
# Half a unit in the last place below 1: 1 itself has no logit.
ALMOST_ONE = 1.0 - 2.0**-24


def pick(outputs, key, names=None):
    """The output that is distilled.

    Args:
        outputs: What a model returned: a tensor, list, tuple or dict.
        key: Name or index of one output; `None` where there is only one.
        names: The model's `output_names`, for lists.

    Returns:
        A tensor.

    Raises:
        KeyError: `key` names no output, or is missing where it is needed. The
            message lists the names.
    """
    if not isinstance(outputs, dict | list | tuple):
        return outputs
    if isinstance(outputs, dict):
        known = list(outputs)
    else:
        names = list(names) if names and len(names) == len(outputs) else []
        known = names or list(range(len(outputs)))
    if key is None and len(known) == 1:
        key = known[0]
    if key in known:
        return outputs[key if isinstance(outputs, dict) else known.index(key)]
    if isinstance(key, int) and not isinstance(outputs, dict):
        if -len(outputs) <= key < len(outputs):
            return outputs[key]
    raise KeyError(known)


def recover(outputs, head):
    """Logits from what a head gave.

    Args:
        outputs: `(batch, ..., classes)`, of any float dtype.
        head: `"logits"`, `"softmax"`, `"sigmoid"` (probabilities, each label by
            itself) or `"binary logits"` (logits, each label by itself).

    Returns:
        float32 logits, up to a constant a sample. `(batch, ..., classes)` for the
        first two; for the last two a pair for each label, `(batch, ..., labels, 2)`, or
        `(batch, ..., 2)` for a single one: first "no", then "yes".
    """
    outputs = ops.cast(outputs, "float32")
    if head == SOFTMAX:
        return ops.log(ops.maximum(outputs, TINY))
    if head == SIGMOID:
        p = ops.clip(outputs, TINY, ALMOST_ONE)
        pair = ops.stack([ops.log1p(-p), ops.log(p)], axis=-1)
    elif head == BINARY:
        pair = ops.stack([-0.5 * outputs, 0.5 * outputs], axis=-1)
    else:
        return ops.maximum(outputs, LOWEST)
    return ops.squeeze(pair, axis=-2) if outputs.shape[-1] == 1 else pair


def head_by_layers(model, tensor=None):
    """What a model's last layer says of its outputs.

    Args:
        model: A `keras.Model`, or any layer.
        tensor: Which of its symbolic outputs. The only one by default.

    Returns:
        `"logits"`, `"softmax"`, `"sigmoid"`, or `None` where the layers do not tell.
    """
    layer = _last_layer(model, tensor)
    if layer is None:
        return None
    if isinstance(layer, keras.Model):
        return head_by_layers(layer)
    if isinstance(layer, keras.layers.Softmax):
        return SOFTMAX
    activation = getattr(layer, "activation", None)
    if activation is keras.activations.softmax:
        return SOFTMAX
    if activation is keras.activations.sigmoid:
        return SIGMOID
    if activation is keras.activations.linear and hasattr(layer, "kernel"):
        return LOGITS
    return None


def _last_layer(model, tensor):
    layers = getattr(model, "layers", None)
    if not layers:
        return None
    if isinstance(model, keras.Sequential):
        return layers[-1]
    tensor = getattr(model, "output", None) if tensor is None else tensor
    if tensor is None:
        return None
    for layer in reversed(layers):
        try:
            outputs = keras.tree.flatten(layer.output)
        except (AttributeError, ValueError):
            # Subclassed, or shared and so with several outputs.
            continue
        if any(output is tensor for output in outputs):
            return layer
    return None


def look_like_probabilities(outputs):
    """Whether values are distributions over the last axis.

    Args:
        outputs: NumPy array `(..., classes)`.

    Returns:
        True if all lie in [0, 1] and every row sums to 1 (to 1 %, for half precision).
    """
    outputs = np.asarray(outputs, "float32")
    if outputs.shape[-1] < 2 or not outputs.size:
        return False
    inside = bool((outputs >= 0).all() and (outputs <= 1).all())
    return inside and bool(np.abs(outputs.sum(-1) - 1).max() < 0.01)
