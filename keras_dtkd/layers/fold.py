"""Attention between blocks of filters, multiplied into the kernels."""

import keras

from keras_dtkd.layers.graph_copy import (
    check_is_graph,
    check_no_lora,
    copy_model,
    find_hidden_layer,
    iter_graph_layers,
)
from keras_dtkd.layers.virtual_attention_conv2d import VirtualAttentionConv2D


def fold(model):
    """A copy of a model with each `VirtualAttentionConv2D` as a plain `Conv2D`.

    Kernels are multiplied by the attention at its present temperature. Outputs are the
    model's; there is nothing left to compute or to load but Keras's own layer.
    Regularizers and constraints of the kernel are kept. The copy is compiled as the
    model is, with a new optimizer.

    Args:
        model: A built functional or sequential model, such as the trained copy of
            `layers.virtual_attention`. It stays as it is.

    Returns:
        A model that shares no weights with the first.

    Raises:
        TypeError: `model` is no `keras.Model`.
        ValueError: A model that is not built, has no `VirtualAttentionConv2D`, or
            cannot be copied. Such a layer within one that is no functional model.

    Example:

    >>> layers.fold(student).save("student.keras")
    """
    check_is_graph("fold", model)
    hidden = find_hidden_layer(model, [VirtualAttentionConv2D])
    if hidden:
        outer, inner = hidden
        raise ValueError(
            f"`fold`: {inner.name!r} cannot be folded: it is within {outer.name!r}, a "
            f"{type(outer).__name__}, which is no functional model."
        )
    found = [each for each in iter_graph_layers(model) if _is_attentive(each)]
    if not found:
        raise ValueError(
            f"`fold`: {model.name!r} has no `VirtualAttentionConv2D` to fold."
        )
    check_no_lora("fold", found)

    def replace(layer):
        if _is_attentive(layer):
            own = _own_arguments(layer)
            config = {k: v for k, v in layer.get_config().items() if k not in own}
            return keras.layers.Conv2D.from_config(config)
        return None

    def fill(layer, new):
        new.kernel.assign(keras.ops.convert_to_numpy(layer.compute_kernel()))
        if layer.use_bias:
            new.bias.assign(keras.ops.convert_to_numpy(layer.bias))

    return copy_model("fold", model, replace, fill)


def _is_attentive(layer):
    return type(layer) is VirtualAttentionConv2D


def _own_arguments(layer):
    """The arguments that a plain `Conv2D` does not have."""
    plain = keras.layers.Conv2D(layer.filters, layer.kernel_size).get_config()
    return set(layer.get_config()) - set(plain)
