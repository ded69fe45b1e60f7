"""Layers within layers, wherever a user keeps them."""

import itertools
from typing import Any

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


def find_student(model):
    """A Distiller's student; any other model itself."""
    student = getattr(model, "student", None)
    return student if isinstance(student, keras.Model) else model


def set_trainable_flags(layers, flags):
    """Sets for each layer of a list whether it is trained, and not those within it."""
    pairs = list(zip(layers, flags, strict=True))
    # Outer layers first, which set the flags of those in them.
    pairs.sort(key=lambda pair: -sum(1 for _ in iter_layers(pair[0])))
    for layer, flag in pairs:
        if layer.trainable != flag:
            layer.trainable = flag


def find_data_format(model):
    """Where a model's maps have their channels, by the first layer that states it.

    Convolutions and pooling layers come first, and `Flatten` last: a layer that never
    gets a map has Keras's default.
    """
    layers = [e for e in iter_layers(model) if getattr(e, "data_format", None)]
    if not layers:
        return keras.config.image_data_format()
    return min(layers, key=_format_rank).data_format


def get_image_size(shape, data_format):
    """Height and width in the shape of a batch of images."""
    first = 2 if data_format == "channels_first" else 1
    return shape[first : first + 2]


def _format_rank(layer):
    if hasattr(layer, "kernel_size") or hasattr(layer, "pool_size"):
        return 0
    return 2 if isinstance(layer, keras.layers.Flatten) else 1


def find_layer(model, name):
    """The layer of that name or path, or a `ValueError` that lists those there are.

    Args:
        model: Where to look, at any depth.
        name: A layer's name; or a path, as in `"encoder/block_3/dense"`: each name is
            found within the layer before it, at any depth.
    """
    for part in name.split("/"):
        layer = _find_by_name(model, part)
        if layer is None:
            names = ", ".join(found for found, _ in find_names(model))
            raise ValueError(
                f"`{model.name}` has no layer {part!r}. Its layers: {names}."
            )
        model = layer
    return model


def _find_by_name(model, name):
    layers = _outer_layers_first(model)
    return next((layer for layer in layers if layer.name == name), None)


def _outer_layers_first(model):
    """The layers within a model, in the order in which a name is looked for."""
    layers = list(getattr(model, "layers", []))
    for layer in layers:
        yield layer
        # The list grows.
        layers += getattr(layer, "layers", [])
    # Within layers that are no models.
    yield from (layer for layer in iter_layers(model) if layer is not model)


def find_names(model):
    """The shortest name or path of every layer within a model that `find_layer` finds.

    Returns:
        A list of `(name, layer)`, outer layers of a model before inner ones. Without
        input layers, cells of recurrent layers, and what a `Sequential` keeps for
        itself.
    """
    first: dict = {}
    for layer in _outer_layers_first(model):
        first.setdefault(layer.name, layer)
    found = []
    for path, layer in _iter_paths(model, (), set()):
        # From the layer's own name to the full path.
        names = ["/".join(path[start:]) for start in range(len(path) - 1, -1, -1)]
        if first.get(names[0]) is layer:
            found.append((names[0], layer))
            continue
        longer = (name for name in names[1:] if _leads_to(model, name, layer))
        found += [(name, layer) for name in itertools.islice(longer, 1)]
    return found


def _leads_to(model, name, layer):
    """Whether a path leads to that layer, and not to another one, or nowhere."""
    for part in name.split("/"):
        model = _find_by_name(model, part)
        if model is None:
            # Its first name is that of another layer.
            return False
    return model is layer


def _iter_paths(layer, path, seen):
    """Every layer within one, once, with the names on the way to it."""
    if isinstance(layer, keras.layers.RNN):
        # Its cell runs in a loop of its own.
        return
    is_model = isinstance(layer, keras.Model)
    inner = layer.layers if is_model else _direct_layers(vars(layer), set())
    inputs = keras.layers.InputLayer
    inner = [each for each in inner if not isinstance(each, inputs)]
    new = {id(each): each for each in inner if id(each) not in seen}
    seen.update(new)
    for each in new.values():
        yield (*path, each.name), each
        yield from _iter_paths(each, (*path, each.name), seen)


def _direct_layers(structure, seen):
    """The layers in a nested structure, and not what is within them."""
    if isinstance(structure, keras.layers.Layer):
        yield structure
    elif isinstance(structure, CONTAINERS) and id(structure) not in seen:
        seen.add(id(structure))
        inner: Any = structure
        for each in list(inner.values() if isinstance(inner, dict) else inner):
            yield from _direct_layers(each, seen)
