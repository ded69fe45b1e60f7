"""ShuffleNets with a 1x1 stem of stride 1."""

from keras import layers, ops

from keras_dtkd.models.builder import LayerBuilder, fan_in_uniform, layer_names

STEM = {"filters": 24, "size": 1, "names": ("conv1", "bn1", "stem")}
# The convolutions of ShuffleNet V1.
GROUPS = 3


def shufflev1(inputs, classes, data_format):
    """A ShuffleNet of three groups.

    Reference:
        Zhang et al., "ShuffleNet: An Extremely Efficient Convolutional Neural Network
        for Mobile Devices", arXiv 1707.01083. As in the distillation literature there
        is a ReLU after the depthwise convolution, which the paper omits.
    """
    builder = LayerBuilder(data_format, fan_in_uniform)
    x = builder.conv_norm(inputs, **STEM)
    for s, (width, repeats) in enumerate(((240, 4), (480, 8), (960, 4)), 1):
        for b in range(repeats):
            name = f"layer{s}_{b}"
            output = f"stage{s}" if b == repeats - 1 else f"{name}_out"
            if b == 0:
                # The width includes the shortcut's channels.
                y = _branch_v1(builder, x, width - builder.channels(x), 2, name)
                # Zeros of the padding count in the average; "same" would exclude them.
                x = builder.pad(x, name=f"{name}_shortcut_pad")
                x = layers.AveragePooling2D(
                    3, 2, data_format=data_format, name=f"{name}_shortcut"
                )(x)
                x = layers.Concatenate(builder.axis, name=f"{output}_preact")([y, x])
            else:
                y = _branch_v1(builder, x, width, 1, name)
                x = layers.Add(name=f"{output}_preact")([y, x])
            x = layers.ReLU(name=output)(x)
    return builder.classifier_head(x, classes)


def _branch_v1(builder, x, width, stride, name):
    # The channels of the stem are not grouped.
    groups = 1 if builder.channels(x) == STEM["filters"] else GROUPS
    x = builder.conv_norm(x, width // 4, 1, names=layer_names(name, 1), groups=groups)
    if groups > 1:
        x = builder.channel_shuffle(x, groups, name=f"{name}_shuffle")
    x = builder.conv_norm(x, None, 3, stride, names=layer_names(name, 2))
    return builder.conv_norm(x, width, 1, names=layer_names(name, 3)[:2], groups=GROUPS)


def shufflev2(inputs, classes, data_format):
    """A ShuffleNetV2 of size 1.

    Channels of `"stage1"` etc. are shuffled and those of `"stage1_preact"` etc. are
    not, so that their order differs.

    Reference:
        Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture
        Design", arXiv 1807.11164.
    """
    builder = LayerBuilder(data_format, fan_in_uniform)
    x = builder.conv_norm(inputs, **STEM)
    for s, (width, repeats) in enumerate(((116, 4), (232, 8), (464, 4)), 1):
        for b in range(repeats):
            name, half = f"layer{s}_{b}", width // 2
            output = f"stage{s}" if b == repeats - 1 else f"{name}_out"
            if b == 0:
                y = builder.conv_norm(x, None, 3, 2, names=layer_names(name, 1)[:2])
                y = builder.conv_norm(y, half, 1, names=layer_names(name, 2)[:2])
                x = _branch_v2(builder, x, half, 2, name, 3)
            else:
                y, x = ops.split(x, 2, axis=builder.axis)
                x = _branch_v2(builder, x, half, 1, name, 1)
            x = layers.Concatenate(builder.axis, name=f"{output}_preact")([y, x])
            # After the concatenation, so that there is a pre-activation to name. A
            # second ReLU does not change the untouched half.
            x = layers.ReLU(name=f"{output}_relu")(x)
            x = builder.channel_shuffle(x, 2, name=output)
    x = builder.conv_norm(x, 1024, 1, names=("conv2", "bn2", "conv2_relu"))
    return builder.classifier_head(x, classes)


def _branch_v2(builder, x, half, stride, name, i):
    """1x1, depthwise 3x3 and 1x1 convolutions, numbered from `i`, no last ReLU."""
    x = builder.conv_norm(x, half, 1, names=layer_names(name, i))
    x = builder.conv_norm(x, None, 3, stride, names=layer_names(name, i + 1)[:2])
    return builder.conv_norm(x, half, 1, names=layer_names(name, i + 2)[:2])
