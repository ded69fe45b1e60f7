"""Names of hidden features: a layer, one of its calls, and what of it."""

import inspect
import re
from typing import Any, NamedTuple

import keras

from keras_dtkd.core.layer_tree import find_layer, iter_layers

PARTS = "outputs", "inputs", "scores", "weights"
_NAME = re.compile(rf"(?P<layer>.+?)(#(?P<call>\d+))?(:(?P<part>{'|'.join(PARTS)}))?")
FORCED = "return_attention_scores"


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
    """The layer's name or path, the call (an integer or `None`), and the part."""
    found: Any = _NAME.fullmatch(name)
    call = None if found["call"] is None else int(found["call"])
    return found["layer"], call, found["part"] or "outputs"


def find_feature(model, name):
    """The `Feature` of a model by its name.

    Args:
        model: A built model.
        name: `layer#call:part`, of which all but the layer may be left out. The layer
            is a name or path, see `find_layer`; the call is needed for layers that are
            called several times in a pass, and counts from 0; the part is `outputs`,
            `inputs` (the first argument), or of an attention layer `scores`, before the
            softmax, or `weights`, after it.

    Raises:
        ValueError: No such layer, or a layer without attention.
    """
    path, call, part = parse_name(name)
    layer = find_layer(model, path)
    if part in ("outputs", "inputs"):
        return Feature(layer, part, call)
    gives = FORCED in inspect.signature(layer.call).parameters
    softmaxes = [
        each for each in iter_layers(layer) if isinstance(each, keras.layers.Softmax)
    ]
    if len(softmaxes) == 1:
        part = "inputs" if part == "scores" else "outputs"
        return Feature(softmaxes[0], part, call, layer if gives else None)
    if gives and part == "weights":
        return Feature(layer, "returned", call, layer)
    raise ValueError(
        f"The layer {path!r} of `{model.name}` has no attention {part} that "
        f"can be recorded: it contains {len(softmaxes)} softmax layers"
        + (", and returns weights alone. Take `:weights`." if gives else ".")
    )
