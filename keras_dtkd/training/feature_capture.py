"""Hidden features, captured during the one forward pass."""

import contextlib

from keras_dtkd.core.features import FORCED, find_feature, parse_name


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
    """Captures what named features are while the model is called.

    The layer's `call` is wrapped on the instance, which works for nested and
    subclassed models and inside a trace, and costs no second pass. Yields a dict that
    fills with a list for each name, see `core.features.find_feature`: one value for
    each call of the layer, in order.
    """
    features: dict[str, list] = {name: [] for name in names}
    found = [(find_feature(model, name), features[name]) for name in features]
    layers: dict = {}
    for feature, values in found:
        layers.setdefault(id(feature.layer), (feature.layer, []))[1].append(
            (feature.part, values)
        )
        if feature.attention is not None:
            layers.setdefault(id(feature.attention), (feature.attention, []))
    forced = {id(feature.attention) for feature, _ in found}
    with patch_calls(
        (layer, _wrap_call(layer.call, records, key in forced))
        for key, (layer, records) in layers.items()
    ):
        yield features


def _wrap_call(call, records, returns_attention):
    """A layer's `call` that records; `records` are pairs `(part, values)`.

    `returns_attention` is for layers that `find_feature` made sure of.
    """

    def wrapped(*args, **kwargs):
        first = args[0] if args else next(iter(kwargs.values()), None)
        _record(records, "inputs", first)
        if not returns_attention:
            outputs = call(*args, **kwargs)
            _record(records, "outputs", outputs)
            return outputs
        both = call(*args, **{**kwargs, FORCED: True})
        outputs, attention = both
        _record(records, "returned", attention)
        _record(records, "outputs", outputs)
        return both if kwargs.get(FORCED) else outputs

    return wrapped


def _record(records, part, value):
    for wanted, values in records:
        if wanted == part:
            values.append(value)


def select_calls(model, features):
    """Of each captured feature the call, and the item of it, that its name states.

    Without a call, the only one, or the list of all.

    Raises:
        ValueError: A layer was not called, or not so often; or it has no such item.
    """
    return {name: _select(model, name, values) for name, values in features.items()}


def _select(model, name, values):
    parsed = parse_name(name)
    call = parsed.call
    if call is None and len(values) > 1:
        return values
    if (call or 0) >= len(values):
        times = f"{len(values)} times" if values else "never"
        hint = ""
        if not values and name.endswith((":scores", ":weights")):
            hint = " A fused attention computes them nowhere."
        raise ValueError(
            f"`{model.name}`: the layer of the feature {name!r} is called {times} in a "
            f"forward pass.{hint}"
        )
    value = values[call or 0]
    try:
        return parsed.select(value)
    except LookupError:
        known = "one tensor"
        if isinstance(value, dict | list | tuple):
            keys = value if isinstance(value, dict) else range(len(value))
            known = f"items {', '.join(f'[{key}]' for key in keys)}"
        raise ValueError(
            f"`{model.name}`: the feature {name!r} is an item that is missing: the "
            f"layer has {known}."
        ) from None
