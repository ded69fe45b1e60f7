"""Outputs of inner layers, recorded during the one forward pass."""

import contextlib
from typing import Any


@contextlib.contextmanager
def patch_calls(functions):
    """Gives layers another `call` for a while, each on its instance.

    Args:
        functions: Pairs of a layer and what to call instead.
    """
    functions = list(functions)
    for layer, function in functions:
        layer.call = function
    try:
        yield
    finally:
        for layer, _ in functions:
            del layer.call


@contextlib.contextmanager
def capture(model, names):
    """Records what named layers return while the model is called.

    The layer's `call` is wrapped on the instance, which works for nested and
    subclassed models and inside a trace, and costs no second pass.

    Args:
        model: The model that will be called.
        names: Names of its layers.

    Yields:
        A dict that fills with the outputs, by name.
    """
    features: dict[str, Any] = {}
    layers = {name: find_layer(model, name) for name in names}
    with patch_calls(
        (layer, _wrap_call(layer.call, features, name))
        for name, layer in layers.items()
    ):
        yield features


def _wrap_call(call, features, name):
    def wrapped(*args, **kwargs):
        features[name] = call(*args, **kwargs)
        return features[name]

    return wrapped


def find_layer(model, name):
    """The layer of that name, at any depth.

    Raises:
        ValueError: There is none; the message lists the layers.
    """
    pending = list(getattr(model, "layers", []))
    seen = []
    while pending:
        layer = pending.pop(0)
        if layer.name == name:
            return layer
        seen.append(layer.name)
        pending += getattr(layer, "layers", [])
    raise ValueError(
        f"`{model.name}` has no layer {name!r}. Its layers: {', '.join(seen)}."
    )
