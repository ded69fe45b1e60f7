"""Keras layers with the conventions of the networks of the CIFAR literature."""

import keras
from keras import layers


def fan_out_normal(fan_in, fan_out):
    """Normal distribution, not truncated, of variance 2 / fan-out."""
    return keras.initializers.RandomNormal(stddev=(2 / fan_out) ** 0.5)


def fan_in_uniform(fan_in, fan_out):
    """PyTorch's default for convolutions and linear layers: ± 1 / √fan-in."""
    return keras.initializers.RandomUniform(-(fan_in**-0.5), fan_in**-0.5)


def small_normal(fan_in, fan_out):
    """Normal distribution of standard deviation 0.01."""
    return keras.initializers.RandomNormal(stddev=0.01)


def zeros(fan_in, fan_out):
    """All zeros."""
    return keras.initializers.Zeros()


class LayerBuilder:
    """Adds layers to a functional graph, with the conventions that all networks share.

    Parameters and arithmetic equal those of the PyTorch networks: no bias before a
    batch norm, a padding of 1 on each side of a 3x3 window for every stride. Every
    layer is named. Layers with weights have the name of the reference's module, with
    `_` for `.`, which `load_torch` relies on.

    Args:
        data_format: `"channels_last"` or `"channels_first"`.
        initializer: Initializer of convolution kernels: a function of fan-in and
            fan-out.
    """

    def __init__(self, data_format, initializer=fan_out_normal):
        self.data_format = data_format
        self.axis = -1 if data_format == "channels_last" else 1
        # Called for each layer: a shared initializer object would give all kernels of
        # one shape the same values. The fans are computed here, because Keras swaps
        # those of a depthwise kernel.
        self.initializer = initializer

    def channels(self, x):
        """Number of channels."""
        return x.shape[self.axis]

    def conv(self, x, filters, size, stride=1, *, name, groups=1, bias=False):
        """A 1x1 or 3x3 convolution."""
        area = size * size
        fan_in = area * self.channels(x) // groups
        x, padding = self._pad_for_stride(x, size, stride, name)
        return layers.Conv2D(
            filters,
            size,
            stride,
            padding,
            data_format=self.data_format,
            groups=groups,
            use_bias=bias,
            kernel_initializer=self.initializer(fan_in, area * filters),
            name=name,
        )(x)

    def depthwise(self, x, stride=1, *, name):
        """A depthwise 3x3 convolution."""
        fans = 9, 9 * self.channels(x)
        x, padding = self._pad_for_stride(x, 3, stride, name)
        return layers.DepthwiseConv2D(
            3,
            stride,
            padding,
            data_format=self.data_format,
            use_bias=False,
            depthwise_initializer=self.initializer(*fans),
            name=name,
        )(x)

    def _pad_for_stride(self, x, size, stride, name):
        if size == 1 or stride == 1:
            return x, "same"
        # At stride 2, "same" pads an even side by 0 before and 1 after.
        return self.pad(x, name=f"{name}_pad"), "valid"

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

    def relu(self, x, *, name):
        """A plain ReLU."""
        return layers.ReLU(name=name)(x)

    def concat(self, xs, *, name):
        """Concatenates channels."""
        return layers.Concatenate(self.axis, name=name)(xs)

    def named_identity(self, x, name):
        """Names an output whose layer must keep the name of the reference's module."""
        return layers.Identity(name=name)(x)

    def channel_shuffle(self, x, groups, *, name):
        """Reorders channels: the first of each group, then the second of each, etc."""
        height, width, channels = self.shape(x)
        group_size = channels // groups
        if self.axis == 1:
            split, order = (groups, group_size, height, width), (2, 1, 3, 4)
        else:
            split, order = (height, width, groups, group_size), (1, 2, 4, 3)
        y = layers.Reshape(split, name=f"{name}_split")(x)
        y = layers.Permute(order, name=f"{name}_order")(y)
        return layers.Reshape(x.shape[1:], name=name)(y)

    def shape(self, x):
        """Height, width and channels."""
        return x.shape[1:] if self.axis == -1 else (*x.shape[2:], x.shape[1])

    def classifier_head(self, x, classes, kernel=fan_in_uniform, bias=fan_in_uniform):
        """Global average pooling, `"pooled"`, and the linear layer, `"logits"`."""
        x = layers.GlobalAveragePooling2D(self.data_format, name="pooled")(x)
        fans = x.shape[-1], classes
        return layers.Dense(
            classes,
            kernel_initializer=kernel(*fans),
            bias_initializer=bias(*fans),
            name="logits",
        )(x)
