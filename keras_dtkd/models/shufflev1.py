"""ShuffleNet V1."""

from keras import layers

from keras_dtkd.models.builder import LayerBuilder, fan_in_uniform

GROUPS = 3


def shufflev1(inputs, classes, data_format):
    """A ShuffleNet of three groups with a 1x1 stem of stride 1.

    Args:
        inputs: Symbolic images.
        classes: Number of logits.
        data_format: `"channels_last"` or `"channels_first"`.

    Returns:
        Logits.

    Reference:
        Zhang et al., "ShuffleNet: An Extremely Efficient Convolutional Neural Network
        for Mobile Devices", arXiv 1707.01083. As in the distillation literature there
        is a ReLU after the depthwise convolution, which the paper omits.
    """
    builder = LayerBuilder(data_format, fan_in_uniform)
    x = builder.batch_norm(builder.conv(inputs, 24, 1, name="conv1"), name="bn1")
    x = builder.relu(x, name="stem")
    for s, (width, repeats) in enumerate(((240, 4), (480, 8), (960, 4)), 1):
        for b in range(repeats):
            name = f"layer{s}_{b}"
            output_name = f"stage{s}" if b == repeats - 1 else f"{name}_out"
            if b == 0:
                # The width includes the shortcut's channels.
                y = _branch(builder, x, width - builder.channels(x), 2, name)
                x = _pooled_shortcut(builder, x, name)
                x = builder.concat([y, x], name=f"{output_name}_preact")
            else:
                y = _branch(builder, x, width, 1, name)
                x = layers.Add(name=f"{output_name}_preact")([y, x])
            x = builder.relu(x, name=output_name)
    return builder.classifier_head(x, classes)


def _branch(builder, x, width, stride, name):
    # The 24 channels of the stem are not grouped.
    groups = 1 if builder.channels(x) == 24 else GROUPS
    x = builder.conv(x, width // 4, 1, name=f"{name}_conv1", groups=groups)
    x = builder.relu(builder.batch_norm(x, name=f"{name}_bn1"), name=f"{name}_relu1")
    if groups > 1:
        x = builder.channel_shuffle(x, groups, name=f"{name}_shuffle")
    x = builder.depthwise(x, stride, name=f"{name}_conv2")
    x = builder.relu(builder.batch_norm(x, name=f"{name}_bn2"), name=f"{name}_relu2")
    x = builder.conv(x, width, 1, name=f"{name}_conv3", groups=GROUPS)
    return builder.batch_norm(x, name=f"{name}_bn3")


def _pooled_shortcut(builder, x, name):
    # Zeros of the padding count in the average; "same" would exclude them.
    x = builder.pad(x, name=f"{name}_shortcut_pad")
    return layers.AveragePooling2D(
        3, 2, data_format=builder.data_format, name=f"{name}_shortcut"
    )(x)
