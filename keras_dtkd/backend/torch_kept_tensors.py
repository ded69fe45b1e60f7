"""The tensors that layers keep as attributes."""

from keras_dtkd.core.layer_tree import iter_layers

CONTAINERS = dict, list


class KeptTensors:
    """What layers keep now, to be restored.

    While a layer is traced, its Python code runs on tensors without values. One that it
    kept would be in its place for good.

    Args:
        layers: Layers, and any within them.
    """

    def __init__(self, layers):
        self._layers = list(iter_layers(list(layers)))
        self._contents = {}
        for layer in self._layers:
            for container in _iter_containers(vars(layer), set()):
                copy = dict if isinstance(container, dict) else list
                self._contents[id(container)] = container, copy(container)
        self._tensors = self._find_tensors()

    def find_other(self):
        """The name of an attribute that is, or holds, another tensor now; or `None`."""
        for path, tensor in self._find_tensors().items():
            if self._tensors.get(path) is not tensor:
                return path[1]
        return None

    def restore(self):
        """Gives all attributes, lists and dicts what they had."""
        for container, content in self._contents.values():
            # Keras's and PyTorch's own classes would take it for a change.
            if isinstance(container, dict):
                dict.clear(container)
                dict.update(container, content)
            else:
                list.__setitem__(container, slice(None), content)

    def _find_tensors(self):
        """Tensors by the layer's number, its attribute, and the place in this one."""
        found = {}
        for number, layer in enumerate(self._layers):
            for name, value in vars(layer).items():
                for place, tensor in _iter_tensors(value, (), set()):
                    found[number, name, *place] = tensor
        return found


def _iter_containers(value, seen):
    """A dict or list, and all within it, once."""
    inner = value.values() if isinstance(value, dict) else value
    if not isinstance(value, (*CONTAINERS, tuple)) or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, CONTAINERS):
        yield value
    for each in inner:
        if isinstance(each, (*CONTAINERS, tuple)):
            yield from _iter_containers(each, seen)


def _iter_tensors(value, place, seen):
    """Tensors that are no variables, in nested dicts, lists and tuples."""
    import torch

    if isinstance(value, torch.Tensor) and not isinstance(value, torch.nn.Parameter):
        yield place, value
    elif isinstance(value, (*CONTAINERS, tuple)) and id(value) not in seen:
        seen.add(id(value))
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in items:
            yield from _iter_tensors(each, (*place, str(key)), seen)
