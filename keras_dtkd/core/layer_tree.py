"""Layers within layers, wherever a user keeps them."""

import keras


def iter_layers(structure, _seen=None):
    """Every layer within a layer or nested structure, itself included, once."""
    seen = set() if _seen is None else _seen
    containers = keras.layers.Layer | dict | list | tuple
    if id(structure) in seen or not isinstance(structure, containers):
        return
    seen.add(id(structure))
    if isinstance(structure, keras.layers.Layer):
        yield structure
        structure = vars(structure)
    for inner in list(structure.values() if isinstance(structure, dict) else structure):
        yield from iter_layers(inner, seen)
