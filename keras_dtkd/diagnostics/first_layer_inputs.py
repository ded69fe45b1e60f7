"""Inputs as they arrive at the first layer that learns from their scale."""

import keras
import numpy as np
from keras import layers, ops

from keras_dtkd import backend
from keras_dtkd.core.arrays import to_numpy
from keras_dtkd.core.layer_tree import iter_layers
from keras_dtkd.training.feature_capture import patch_calls

# How well a line must fit what the first layers do, to be undone.
LINE = 1e-3


def arrived(model, x):
    """What a model's first layer with weights is given.

    Whatever stands before it (layers, operations, another model, a method's own code)
    has had its effect, augmentation none.

    Args:
        model: A built `keras.Model`.
        x: Inputs, NumPy, nested as the model takes them.

    Returns:
        NumPy, float32; or `None` where a layer that brings any inputs to a scale of
        their own comes first, or no layer with weights is called on one tensor.
    """
    first: list = []
    x = keras.tree.map_structure(ops.convert_to_tensor, x)
    with _watched(model, first), keras.StatelessScope(), backend.no_grad():
        model(x, training=False)
    if not first or _normalizes(first[0][0]) or keras.tree.is_nested(first[0][1]):
        return None
    return to_numpy(ops.convert_to_numpy(ops.cast(first[0][1], "float32")))


def _watched(model, first):
    """Fills `first` with the first layer called that depends on a scale, or sets it."""
    watched = [layer for layer in iter_layers(model) if _depends(layer)]
    return patch_calls(
        (layer, _watching(layer, layer.call, first)) for layer in watched
    )


def _watching(layer, call, first):
    def wrapped(*args, **kwargs):
        if not first:
            first.append((layer, [*args, *kwargs.values()][0]))
        return call(*args, **kwargs)

    return wrapped


def _depends(layer):
    if isinstance(layer, keras.Model | layers.Normalization):
        return False
    if _normalizes(layer):
        return True
    # Cells are called in loops that a backend compiles.
    whole = isinstance(layer, layers.RNN | layers.Wrapper)
    inner = [part for part in iter_layers(layer) if part is not layer]
    return bool(layer.weights) and (whole or not any(p.weights for p in inner))


def _normalizes(layer):
    """By its name, since users have their own `LayerNorm`."""
    known = isinstance(layer, layers.Normalization | layers.Wrapper)
    return not known and "norm" in type(layer).__name__.lower()


def undo(made, x):
    """The inverse of what the teacher does to its inputs first.

    Args:
        made: The Distiller.
        x: One sample's inputs, an array.

    Returns:
        A function of inputs, NumPy; or `None` where the teacher is no single model,
        or does more than to scale and shift each number.
    """
    teachers = made.teacher_reference.teacher.models
    if len(teachers) != 1:
        return None
    x = x.astype("float32")
    ends = [arrived(teachers[0], part) for part in (x * 0, x * 0 + 1, x)]
    if any(end is None or end.size != x.size for end in ends):
        return None
    shift, one, found = (end.reshape(x.shape) for end in ends)
    scale = one - shift
    line = scale * x + shift
    if not scale.all() or np.abs(line - found).max() > LINE * np.abs(found).max():
        return None
    return lambda values: (values - shift[:1]) / scale[:1]
