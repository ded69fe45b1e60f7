"""Layers within layers, wherever a user keeps them."""

import keras

# No abstract classes: a model has thousands of values, and each `fit` walks over them.
CONTAINERS = keras.layers.Layer, dict, list, tuple


def iter_layers(structure, _seen=None):
    """Every layer within a layer or nested structure, itself included, once."""
    seen = set() if _seen is None else _seen
    if id(structure) in seen or not isinstance(structure, CONTAINERS):
        return
    seen.add(id(structure))
    if isinstance(structure, keras.layers.Layer):
        yield structure
        structure = vars(structure)
    for inner in list(structure.values() if isinstance(structure, dict) else structure):
        # Most attributes are numbers and names.
        if isinstance(inner, CONTAINERS):
            yield from iter_layers(inner, seen)


def find_layer(model, name):
    """The layer of that name, at any depth, or a `ValueError` that lists them."""
    layers = list(getattr(model, "layers", []))
    # The outer ones first; the list grows.
    for layer in layers:
        if layer.name == name:
            return layer
        layers += getattr(layer, "layers", [])
    # Within layers that are no models.
    layers += [layer for layer in iter_layers(model) if layer is not model]
    for layer in layers:
        if layer.name == name:
            return layer
    names = ", ".join(dict.fromkeys(layer.name for layer in layers))
    raise ValueError(f"`{model.name}` has no layer {name!r}. Its layers: {names}.")
