"""The identity of arrays, and of a model by its weights and its layers' settings."""

import hashlib
import json

import keras
import numpy as np

from keras_dtkd.core.layer_tree import iter_layers

# Settings that leave the outputs of inference as they are, or may differ between the
# same models: Keras numbers names, and code has the lines it was written on.
_IGNORED = {"name", "trainable", "dtype", "seed", "batch_shape", "code", "shared_name"}
_IGNORED_ENDS = "_initializer", "_regularizer", "_constraint"


def model_fingerprint(model):
    """A digest of what decides a built model's outputs: its weights and layers.

    Of weights the shapes, dtypes and bytes, in order; of layers, in any order, the
    classes and their configuration, and the numbers that a functional graph holds.
    Names do not matter, nor flags and optimizers: the same model, loaded again, has the
    same fingerprint. 32 hexadecimal digits. What a class has in code alone, or keeps
    out of its `get_config`, is not seen.
    """
    weights = map(keras.ops.convert_to_numpy, model.weights)
    layers = sorted(json.dumps(_describe(layer)) for layer in iter_layers(model))
    parts = [*weights, np.frombuffer("\n".join(layers).encode(), "uint8")]
    return digest_arrays(parts)


def digest_arrays(arrays):
    """A digest of NumPy arrays of numbers: shapes, dtypes and bytes, in order."""
    digest = hashlib.blake2b(digest_size=16)
    for value in map(np.ascontiguousarray, arrays):
        digest.update(f"{value.shape}{value.dtype.name}".encode())
        # No copy: a teacher may be large, and each `fit` begins here.
        digest.update(value.reshape(-1).view("uint8").data)
    return digest.hexdigest()


def _describe(layer):
    """A layer's class and settings, as JSON; of a container those of its graph."""
    if isinstance(layer, keras.layers.InputLayer | keras.Sequential):
        # A model may be built with or without the one, and the other has no own.
        return None
    try:
        config = layer.get_config()
    except Exception:  # noqa: BLE001 - a class of one's own may have none
        return type(layer).__name__
    if hasattr(layer, "operations") and "layers" in config:
        nodes = [(c["class_name"], c["inbound_nodes"]) for c in config["layers"]]
        return sorted(json.dumps(_select_settings(node)) for node in nodes)
    return type(layer).__name__, _select_settings(config)


def _select_settings(config):
    """What of a configuration decides about outputs, and is the same when loaded."""
    if isinstance(config, dict):
        if config.get("class_name") == "__keras_tensor__":
            return None
        return {
            key: _select_settings(value)
            for key, value in sorted(config.items())
            if key not in _IGNORED and not key.endswith(_IGNORED_ENDS)
        }
    if isinstance(config, np.ndarray | np.generic):
        config = config.tolist()
    if isinstance(config, list | tuple):
        return [_select_settings(value) for value in config]
    is_plain = config is None or isinstance(config, bool | int | float | str)
    return config if is_plain else type(config).__name__
