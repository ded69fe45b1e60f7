"""Keras layers with the conventions of the networks of the CIFAR literature."""

import keras
from keras import layers


def fan_out_normal(fan_in, fan_out):
    """Normal distribution, not truncated, of variance 2 / fan-out."""
    return keras.initializers.RandomNormal(stddev=(2 / fan_out) ** 0.5)


def fan_in_uniform(fan_in, fan_out):
    """PyTorch's default for convolutions and linear layers: ± 1 / √fan-in."""
    return keras.initializers.RandomUniform(-(fan_in**-0.5), fan_in**-0.5)


def layer_names(block, number):
    """Names of a block's convolution, batch norm and ReLU of that number."""
    return [f"{block}_{kind}{number}" for kind in ("conv", "bn", "relu")]


class LayerBuilder:
    """Adds layers to a functional graph, with the conventions that all networks share.

    Parameters and arithmetic equal those of the PyTorch networks: no bias before a
    batch norm, a padding of 1 on each side of a 3x3 window for every stride. Layers
    with weights have the name of the reference's module, with `_` for `.`, which
    `load_torch` relies on. `initializer` of convolution kernels is a function of fan-in
    and fan-out.
    """

    def __init__(self, data_format, initializer=fan_out_normal):
        self.data_format = data_format
        self.axis = -1 if data_format == "channels_last" else 1
        # Called for each layer: a shared object would give all kernels of one shape the
        # same values. The fans are ours: Keras swaps those of a depthwise kernel.
        self.initializer = initializer

    def channels(self, x):
        """Number of channels."""
        return x.shape[self.axis]

    def conv(self, x, filters, size, stride=1, *, name, groups=1, bias=False):
        """A 1x1 or 3x3 convolution, depthwise if `filters` is `None`."""
        area, channels, padding = size * size, self.channels(x), "same"
        if size > 1 and stride > 1:
            # At stride 2, "same" pads an even side by 0 before and 1 after.
            x, padding = self.pad(x, name=f"{name}_pad"), "valid"
        options = {"data_format": self.data_format, "use_bias": bias, "name": name}
        if filters is None:
            kernel = self.initializer(area, area * channels)
            return layers.DepthwiseConv2D(
                size, stride, padding, depthwise_initializer=kernel, **options
            )(x)
        kernel = self.initializer(area * channels // groups, area * filters)
        options |= {"groups": groups, "kernel_initializer": kernel}
        return layers.Conv2D(filters, size, stride, padding, **options)(x)

    def pad(self, x, *, name):
        """Zero padding of 1 on each side."""
        return layers.ZeroPadding2D(1, data_format=self.data_format, name=name)(x)

    def batch_norm(self, x, *, name):
        """A batch norm with PyTorch's constants."""
        # PyTorch's momentum is the weight of the new value: 0.1 there is 0.9 here.
        # PyTorch keeps the unbiased variance and Keras the biased one, a factor of
        # n / (n - 1), noticeable on small maps only (0.4 % at 2x2 and a batch of 64).
        return layers.BatchNormalization(
            self.axis, momentum=0.9, epsilon=1e-5, name=name
        )(x)

    def conv_norm(self, x, filters, size, stride=1, *, names, **options):
        """A convolution and a batch norm, and a ReLU if there is a third name."""
        conv, norm, *relu = names
        x = self.conv(x, filters, size, stride, name=conv, **options)
        x = self.batch_norm(x, name=norm)
        return layers.ReLU(name=relu[0])(x) if relu else x

    def channel_shuffle(self, x, groups, *, name):
        """Reorders channels: the first of each group, then the second of each, etc."""
        group_size = self.channels(x) // groups
        if self.axis == 1:
            split, order = (groups, group_size, *x.shape[2:]), (2, 1, 3, 4)
        else:
            split, order = (*x.shape[1:3], groups, group_size), (1, 2, 4, 3)
        y = layers.Reshape(split, name=f"{name}_split")(x)
        y = layers.Permute(order, name=f"{name}_order")(y)
        return layers.Reshape(x.shape[1:], name=name)(y)

    def classifier_head(self, x, classes, kernel=None, bias=None):
        """Global average pooling, `"pooled"`, and the linear layer, `"logits"`.

        `kernel` and `bias` are its initializers, by default `fan_in_uniform`.
        """
        x = layers.GlobalAveragePooling2D(self.data_format, name="pooled")(x)
        kernel, bias = (
            given or fan_in_uniform(x.shape[-1], classes) for given in (kernel, bias)
        )
        return layers.Dense(
            classes, kernel_initializer=kernel, bias_initializer=bias, name="logits"
        )(x)
