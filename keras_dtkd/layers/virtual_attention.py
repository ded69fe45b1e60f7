"""A model whose convolutions have attention between blocks of their filters."""

import keras

from keras_dtkd.core.arguments import check_in_range, check_positive_int
from keras_dtkd.core.layer_tree import find_layer
from keras_dtkd.layers.graph_copy import (
    check_is_graph,
    check_no_lora,
    copy_model,
    find_hidden_layer,
    iter_graph_layers,
)
from keras_dtkd.layers.virtual_attention_conv2d import VirtualAttentionConv2D


def virtual_attention(model, blocks=4, temperature=1.0, entropy=0.0, layers=None):
    """A copy of a model with each `Conv2D` as a `VirtualAttentionConv2D`.

    Names and weights are the model's, attention is equal: the copy's outputs are the
    model's. Layers that are shared are shared in the copy, and it is compiled as the
    model is, with a new optimizer. A Distiller leaves `theta` out of weight decay; for
    a `fit` without one exclude it in that optimizer.
    Depthwise, transposed and other convolutions, and subclasses of `Conv2D`, are copied
    as they are.

    Args:
        model: A built functional or sequential model, with models nested in it or not,
            or a KerasHub backbone or classifier. It stays as it is. Of a KerasHub model
            the copy is a plain functional model, without preprocessor.
        blocks: Number of blocks of each convolution, of input channels and filters.
        temperature: First temperature of the attention, above 0.
        entropy: Weight of the penalty on the entropy, for each layer. At least 0.
        layers: The names or paths of the convolutions, as in `["conv2"]`; the others
            are copied as they are. `None`: all.

    Returns:
        A model that shares no weights with the first. `layers.fold` is the way back.

    Raises:
        TypeError: `model` is no `keras.Model`; `layers` is no list of names.
        ValueError: A model that is not built, has no `Conv2D`, or cannot be copied: its
            class has a `call` or a training of its own. A convolution within a layer
            that is no functional model. A name that no `Conv2D` has. A number out of
            range.

    Reference:
        A reconstruction: see `VirtualAttentionConv2D`.

    Example:

    >>> student = layers.virtual_attention(student, blocks=4, entropy=0.01)
    >>> Distiller(teacher, student).fit(x, y)
    >>> student = layers.fold(student)
    """
    check_is_graph("virtual_attention", model)
    options = {
        "blocks": check_positive_int("virtual_attention", "blocks", blocks),
        "attention_temperature": check_in_range(
            "virtual_attention", "temperature", temperature, 0
        ),
        "entropy_weight": check_in_range(
            "virtual_attention", "entropy", entropy, 0, inclusive=True
        ),
    }
    chosen = {id(layer) for layer in _choose_convolutions(model, layers)}

    def replace(layer):
        if id(layer) in chosen:
            config = {**layer.get_config(), **options}
            return VirtualAttentionConv2D.from_config(config)
        return None

    def fill(layer, new):
        new.kernel.assign(keras.ops.convert_to_numpy(layer.kernel))
        if layer.use_bias:
            new.bias.assign(keras.ops.convert_to_numpy(layer.bias))

    return copy_model("virtual_attention", model, replace, fill)


def _choose_convolutions(model, names):
    if names is None:
        _check_none_is_hidden(model)
        every = list(iter_graph_layers(model))
        found = [each for each in every if _is_convolution(each)]
        if not found:
            has_it = any(isinstance(each, VirtualAttentionConv2D) for each in every)
            hint = (
                " It has virtual attention already: `fold` it first." if has_it else ""
            )
            raise ValueError(
                f"`virtual_attention`: {model.name!r} has no `Conv2D` to replace.{hint}"
            )
    else:
        is_list = isinstance(names, list | tuple) and len(names) > 0
        if not is_list or not all(isinstance(name, str) for name in names):
            raise TypeError(
                "`virtual_attention`: `layers` must be a list of names of `Conv2D` "
                f"layers. Received: layers={names!r}."
            )
        found = [find_layer(model, name) for name in names]
        reached = {id(each) for each in iter_graph_layers(model)}
        for name, layer in zip(names, found, strict=True):
            if not _is_convolution(layer) or id(layer) not in reached:
                raise ValueError(
                    f"`virtual_attention`: {name!r} of `layers` cannot be replaced: "
                    "only a `Conv2D` of a functional model can. It is a "
                    f"{type(layer).__name__}."
                )
    check_no_lora("virtual_attention", found)
    return found


def _is_convolution(layer):
    # A subclass may compute something else.
    return type(layer) is keras.layers.Conv2D


def _check_none_is_hidden(model):
    hidden = find_hidden_layer(model, [keras.layers.Conv2D])
    if hidden:
        outer, inner = hidden
        raise ValueError(
            f"`virtual_attention`: the `Conv2D` {inner.name!r} cannot be replaced: it "
            f"is within {outer.name!r}, a {type(outer).__name__}, which is no "
            "functional model. Name those to be replaced by `layers=`, and this one "
            "is copied as it is."
        )
