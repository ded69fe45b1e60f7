"""Layers within layers, wherever a user keeps them."""

import keras


def iter_layers(part, _seen=None):
    """Every layer that a layer, list or dict is made of, itself included, once.

    Args:
        part: A layer, or a nested structure that may hold layers.

    Yields:
        Keras layers.
    """
    seen = set() if _seen is None else _seen
    if id(part) in seen:
        return
    if isinstance(part, keras.layers.Layer):
        seen.add(id(part))
        yield part
        inner = list(vars(part).values())
    elif isinstance(part, dict | list | tuple):
        seen.add(id(part))
        inner = list(part.values() if isinstance(part, dict) else part)
    else:
        return
    for one in inner:
        yield from iter_layers(one, seen)
