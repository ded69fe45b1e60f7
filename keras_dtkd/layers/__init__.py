"""Layers of the distillation literature, and copies of models with and without them."""

from keras_dtkd.layers.fold import fold as fold
from keras_dtkd.layers.virtual_attention import virtual_attention as virtual_attention
from keras_dtkd.layers.virtual_attention_conv2d import (
    VirtualAttentionConv2D as VirtualAttentionConv2D,
)
