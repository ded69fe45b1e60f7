"""Outputs of inner layers, captured during the one forward pass."""

import contextlib

from keras_dtkd.core.layer_tree import find_layer


@contextlib.contextmanager
def patch_calls(functions):
    """Replaces the `call` of layers, each on its instance, by pairs `(layer, fn)`."""
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
    """Captures what named layers return while the model is called.

    The layer's `call` is wrapped on the instance, which works for nested and
    subclassed models and inside a trace, and costs no second pass. Yields a dict that
    fills with a list for each name: one output for each call of the layer, in order.
    """
    features: dict[str, list] = {name: [] for name in names}
    layers = {name: find_layer(model, name) for name in names}
    with patch_calls(
        (layer, _wrap_call(layer.call, features[name]))
        for name, layer in layers.items()
    ):
        yield features


def _wrap_call(call, outputs):
    def wrapped(*args, **kwargs):
        outputs.append(call(*args, **kwargs))
        return outputs[-1]

    return wrapped


def unwrap_single(features):
    """The output of a layer that was called once, else the list of them."""
    return {n: out[0] if len(out) == 1 else out for n, out in features.items()}
