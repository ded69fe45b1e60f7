"""Masks that outputs carry, and the weight of each row in batch statistics."""

import keras
from keras import ops


class _MaskPassingLayer(keras.layers.Layer):
    """An operation drops a mask, a layer passes it on."""

    def __init__(self, name):
        super().__init__(name=name, dtype="float32", autocast=False)
        self.supports_masking = True
        self.built = True


class MaskPreserving(_MaskPassingLayer):
    """A function of a tensor and keywords, whose result carries the tensor's mask."""

    def __init__(self, function):
        super().__init__(function.__name__)
        self.function = function

    def call(self, outputs, **kwargs):
        return self.function(outputs, **kwargs)


class _MaskReader(_MaskPassingLayer):
    def call(self, outputs, mask=None):
        # Keras hands a layer the mask that its input carries.
        return () if mask is None else mask

    def compute_mask(self, inputs, previous_mask):
        return None


class _AttachMask(_MaskPassingLayer):
    def call(self, pair):
        return pair[0]

    def compute_mask(self, pair, previous_mask):
        return pair[1]


_READ_MASK, _ATTACH_MASK = _MaskReader("mask"), _AttachMask("masked")


def attach_mask(outputs, mask):
    """The tensor, carrying a mask, which no function of a backend hands on."""
    return _ATTACH_MASK([outputs, mask])


def get_mask(outputs):
    """The mask that the output of a model or layer carries: booleans, or `None`."""
    mask = _READ_MASK(outputs)
    return None if isinstance(mask, tuple) else mask


def row_weights(logits, sample_weight=None, mask=None):
    """The weight of each row of logits, or `None` where all count the same.

    `sample_weight` and the boolean `mask` are `(batch,)`, or with further axes of the
    logits `(batch, ..., classes)`. The result is float32, `(batch, ...)`.
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
