"""The tensors that layers keep as attributes."""

import collections
import inspect
import itertools
import types
from typing import Any

import keras

from keras_dtkd.core.layer_tree import iter_layers
from keras_dtkd.core.snapshot import are_same

CONTAINERS = dict, list, set


class KeptTensors:
    """What layers keep now, to be restored; a context that does so at its end.

    While a layer is traced, its Python code runs on tensors without values. One that it
    kept would be in its place for good. Also what is kept in objects that are neither
    Keras's nor PyTorch's, and in nested lists, tuples, dicts and sets.

    Args:
        layers: Layers, and any within them.
    """

    def __init__(self, layers):
        self._layers = list(iter_layers(list(layers)))
        # Tensors by their places, and containers that can change.
        self._tensors: dict = {}
        self._contents: list[tuple[Any, Any]] = []
        for place, value in self._walk():
            if isinstance(value, CONTAINERS):
                self._contents.append((value, _get_kind(value)(value)))
            elif not isinstance(value, tuple):
                self._tensors[place] = value

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.restore()

    def find_other(self):
        """The name of an attribute that is, or holds, another tensor now; or `None`."""
        for place, value in self._walk():
            is_tensor = not isinstance(value, (*CONTAINERS, tuple))
            if is_tensor and self._tensors.get(place) is not value:
                return place[1]
        return None

    def restore(self):
        """Gives all attributes, lists, dicts and sets what they had."""
        for container, content in self._contents:
            if are_same(_flatten(container), _flatten(content)):
                continue
            # A class's own methods might take it for a change, as Keras's do.
            kind = _get_kind(container)
            kind.clear(container)
            if kind is list:
                list.extend(container, content)
            elif kind is set:
                set.update(container, content)
            else:
                for key, value in content.items():
                    kind.__setitem__(container, key, value)

    def _walk(self):
        for number, layer in enumerate(self._layers):
            yield from _walk(vars(layer), (number,), set())


def _get_kind(container) -> Any:
    kinds = collections.OrderedDict, *CONTAINERS
    return next(kind for kind in kinds if isinstance(container, kind))


def _flatten(container):
    is_dict = isinstance(container, dict)
    return list(itertools.chain(*container.items()) if is_dict else container)


def _get_container(value):
    """The container that a value is, or whose attributes it has; or `None`."""
    if isinstance(value, (*CONTAINERS, tuple)):
        return value
    is_code = isinstance(value, type | types.ModuleType) or inspect.isroutine(value)
    is_library = type(value).__module__.partition(".")[0] in ("keras", "torch")
    if is_code or is_library or isinstance(value, keras.layers.Layer):
        return None
    return getattr(value, "__dict__", None)


def _walk(value, place, seen):
    """Tensors that are no variables, and containers, within a value and with it.

    Each has its place: the layer's number, its attribute, and the keys that lead there.
    """
    import torch

    if isinstance(value, torch.Tensor):
        if not isinstance(value, torch.nn.Parameter):
            yield place, value
        return
    container = _get_container(value)
    if container is None or id(container) in seen:
        return
    seen.add(id(container))
    yield place, container
    is_dict = isinstance(container, dict)
    for key, inner in list(container.items() if is_dict else enumerate(container)):
        yield from _walk(inner, (*place, str(key)), seen)
