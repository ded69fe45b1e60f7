"""The identity of arrays, and of a model by its weights and what they do not show."""

import hashlib
import json

import keras
import numpy as np

from keras_dtkd.core.layer_tree import iter_layers

# Settings that change outputs and that no weight shows. Every version of Keras has
# them, and a model that is loaded again has the same.
SETTINGS = (
    *("activation", "negative_slope", "max_value", "threshold", "epsilon", "axis"),
    *("scale", "offset", "input_mean", "input_variance", "invert"),
    *("strides", "padding", "dilation_rate", "pool_size"),
)


def model_fingerprint(model):
    """A digest of a built model: of its weights, and of some settings of its layers.

    Of weights the shapes, dtypes and bytes, in order. Of layers, in any order, their
    `SETTINGS` that are numbers or names: a `Rescaling`, an activation, strides. Not
    what a function, a graph or a KerasHub preprocessor does. Names of layers, flags and
    optimizers do not matter, so the same model loaded again has the same fingerprint.
    32 hexadecimal digits.
    """
    weights = map(keras.ops.convert_to_numpy, model.weights)
    layers = list(iter_layers(model))
    # Also one that was set to `None`: Keras keeps it.
    preprocessors = [each for each in layers if _is_preprocessor(each)]
    prepares = set(map(id, iter_layers(preprocessors)))
    described = [_describe(e) for e in layers if id(e) not in prepares]
    text = json.dumps(sorted(filter(None, described)))
    return digest_arrays([*weights, np.frombuffer(text.encode(), "uint8")])


def digest_arrays(arrays):
    """A digest of NumPy arrays of numbers: shapes, dtypes and bytes, in order."""
    digest = hashlib.blake2b(digest_size=16)
    for value in map(np.ascontiguousarray, arrays):
        digest.update(f"{value.shape}{value.dtype.name}".encode())
        # No copy: a teacher may be large, and each `fit` begins here.
        digest.update(value.reshape(-1).view("uint8").data)
    return digest.hexdigest()


def _is_preprocessor(layer):
    """Whether it is one of KerasHub's, which need not be installed."""
    classes = type(layer).__mro__
    names = [(cls.__module__.partition(".")[0], cls.__name__) for cls in classes]
    return ("keras_hub", "Preprocessor") in names


def _describe(layer):
    """The class and `SETTINGS` of a layer as JSON, `None` where it has none."""
    values = {}
    for name in SETTINGS:
        value = getattr(layer, name, None)
        if name == "activation" and callable(value):
            value = getattr(value, "__name__", None)
        value = keras.tree.map_structure(_to_python, value)
        leaves = keras.tree.flatten(value)
        if all(isinstance(leaf, bool | int | float | str) for leaf in leaves):
            values[name] = value
    return json.dumps([type(layer).__name__, values]) if values else None


def _to_python(value):
    if keras.ops.is_tensor(value):
        value = keras.ops.convert_to_numpy(value)
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
