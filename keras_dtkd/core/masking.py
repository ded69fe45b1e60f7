"""How much each row counts in a statistic over the batch: its weight and mask."""

import keras
from keras import ops


class _MaskPassingLayer(keras.layers.Layer):
    """A layer that lets masks through."""

    def __init__(self, name):
        super().__init__(name=name, dtype="float32", autocast=False)
        self.supports_masking = True
        self.built = True


class MaskPreserving(_MaskPassingLayer):
    """A function whose result carries the mask of its first argument.

    An operation drops a mask, a layer passes it on.

    Args:
        function: From a tensor, and keywords, to a tensor.
    """

    def __init__(self, function):
        super().__init__(function.__name__)
        self.function = function

    def call(self, outputs, **kwargs):
        """The function's result."""
        return self.function(outputs, **kwargs)


class _MaskReader(_MaskPassingLayer):
    """Keras hands a layer the mask that its input carries."""

    def call(self, outputs, mask=None):
        return () if mask is None else mask

    def compute_mask(self, inputs, previous_mask):
        return None


_READ_MASK = _MaskReader("mask")


class _AttachMask(_MaskPassingLayer):
    """Gives a tensor its mask back, which no function of a backend hands on."""

    def call(self, pair):
        return pair[0]

    def compute_mask(self, pair, previous_mask):
        return pair[1]


_ATTACH_MASK = _AttachMask("masked")


def attach_mask(outputs, mask):
    """The tensor, carrying the mask.

    Args:
        outputs: A tensor.
        mask: Booleans, as `mask_of` gave them.
    """
    return _ATTACH_MASK([outputs, mask])


def get_mask(outputs):
    """The mask that a model's output carries.

    Args:
        outputs: A tensor, as a model or a layer returned it.

    Returns:
        Booleans, `(batch, ...)`, or `None`.
    """
    heard = _READ_MASK(outputs)
    return None if isinstance(heard, tuple) else heard


def row_weights(logits, sample_weight=None, mask=None):
    """How much each row of logits counts.

    Args:
        logits: `(batch, ..., classes)`.
        sample_weight: `(batch,)`, or with as many axes as the logits less the
            classes. Optional.
        mask: Booleans, likewise. Optional.

    Returns:
        float32 of the logits' shape less the classes, or `None` where all rows
        count the same.
    """
    if sample_weight is None and mask is None:
        return None
    result = ops.ones_like(logits[..., 0], dtype="float32")
    for factor in (sample_weight, mask):
        if factor is None:
            continue
        factor = ops.cast(ops.convert_to_tensor(factor), "float32")
        if len(factor.shape) > len(result.shape):
            factor = ops.squeeze(factor, axis=-1)
        for _ in range(len(result.shape) - len(factor.shape)):
            factor = ops.expand_dims(factor, -1)
        result = result * factor
    return result
