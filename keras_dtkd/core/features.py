"""Names of hidden features: a layer, one of its calls, and what of it."""

import re
from typing import Any, NamedTuple

import keras

from keras_dtkd.core.layer_tree import find_layer, iter_layers

PARTS = "outputs", "inputs", "scores", "weights"
_NAME = re.compile(
    rf"(?P<layer>.+?)(#(?P<call>\d+))?(:(?P<part>{'|'.join(PARTS)}))?"
    r"(?P<items>(\[[^\]]+\])*)"
)
FORCED = "return_attention_scores"
ATTENTIONS = (
    keras.layers.MultiHeadAttention,
    keras.layers.GroupQueryAttention,
    keras.layers.Attention,
    keras.layers.AdditiveAttention,
)


class FeatureName(NamedTuple):
    """A name, taken apart: `layer#call:part[item]`, with items of items too.

    Attributes:
        layer: The layer's name or path.
        call: Which of its calls, or `None`.
        part: `"outputs"` unless stated.
        items: The key or index of one of several tensors, and so on within it, strings.
    """

    layer: str
    call: int | None
    part: str
    items: tuple

    def select(self, value):
        """The item of what was recorded; a `LookupError` where there is none."""
        for item in self.items:
            if isinstance(value, list | tuple) and item.isdecimal():
                value = value[int(item)]
            elif isinstance(value, dict):
                value = value[item]
            else:
                raise LookupError(item)
        return value


class Feature(NamedTuple):
    """What a name stands for in a model.

    Attributes:
        layer: The layer whose calls are recorded.
        part: What of it: `"outputs"`, `"inputs"`, or `"returned"`, the second result of
            an attention layer.
        call: Which of its calls, from 0; `None` for the only one.
        attention: The layer that must give its attention, or `None`.
    """

    layer: Any
    part: str
    call: int | None = None
    attention: Any = None


def parse_name(name):
    """The `FeatureName` of a name."""
    found: Any = _NAME.fullmatch(name)
    call = None if found["call"] is None else int(found["call"])
    part = found["part"] or "outputs"
    items = tuple(re.findall(r"\[([^\]]+)\]", found["items"]))
    return FeatureName(found["layer"], call, part, items)


def find_feature(model, name):
    """The `Feature` of a model by its name.

    Args:
        model: A built model.
        name: `layer#call:part[item]`, of which all but the layer may be left out. The
            layer is a name or path, see `find_layer`; the call is needed for layers
            that are called several times in a pass, and counts from 0; the part is
            `outputs`, `inputs` (the first argument), or of an attention layer `scores`,
            before the softmax, or `weights`, after it; the item is the key or index of
            one of several tensors.

    Raises:
        ValueError: No such layer, or a layer without attention.
    """
    path, call, part, _ = parse_name(name)
    layer = find_layer(model, path)
    if part in ("outputs", "inputs"):
        return Feature(layer, part, call)
    # A walk takes up to a millisecond, in each step of eager PyTorch.
    layers = list(iter_layers(layer))
    attentions = [each for each in layers if _gives_attention(each)]
    softmaxes = [each for each in layers if isinstance(each, keras.layers.Softmax)]
    forced = attentions[0] if len(attentions) == 1 else None
    if len(softmaxes) == 1 and len(attentions) < 2:
        part = "inputs" if part == "scores" else "outputs"
        return Feature(softmaxes[0], part, call, forced)
    if forced is not None and part == "weights":
        return Feature(forced, "returned", call, forced)
    hint = ""
    if len(attentions) > 1:
        hint = " Name one of them, by a path."
    elif forced is not None:
        hint = " It returns weights: take `:weights`."
    raise ValueError(
        f"The layer {path!r} of `{model.name}` has no attention {part} that can be "
        f"recorded: it holds {len(attentions)} attention layers of Keras and "
        f"{len(softmaxes)} softmax layers.{hint}"
    )


def _gives_attention(layer):
    """Whether it is one of Keras's, which can be made to return its attention.

    Others may return it always, or something else.
    """
    return any(type(layer).call is kind.call for kind in ATTENTIONS)
