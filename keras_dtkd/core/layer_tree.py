"""Layers within layers, wherever a user keeps them."""

import keras


def iter_layers(part, _seen=None):
    """Every layer within a layer or nested structure, itself included, once."""
    seen = set() if _seen is None else _seen
    containers = keras.layers.Layer | dict | list | tuple
    if id(part) in seen or not isinstance(part, containers):
        return
    seen.add(id(part))
    if isinstance(part, keras.layers.Layer):
        yield part
        part = vars(part)
    for inner in list(part.values() if isinstance(part, dict) else part):
        yield from iter_layers(inner, seen)
