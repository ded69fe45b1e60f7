"""ShuffleNet of the first version."""

from keras import layers

from keras_dtkd.models.builder import LayerBuilder, fan_in_uniform

GROUPS = 3


def shufflev1(inputs, classes, data_format):
    """A ShuffleNet of three groups with a 1x1 stem of stride 1.

    Args:
        inputs: Images.
        classes: Number of logits.
        data_format: `"channels_last"` or `"channels_first"`.

    Returns:
        Logits.

    Reference:
        Zhang et al., "ShuffleNet: An Extremely Efficient Convolutional Neural Network
        for Mobile Devices", arXiv 1707.01083. As in the distillation literature there
        is a ReLU after the depthwise convolution, which the paper leaves out.
    """
    made = LayerBuilder(data_format, fan_in_uniform)
    x = made.norm(made.conv(inputs, 24, 1, name="conv1"), name="bn1")
    x = made.relu(x, name="stem")
    for s, (width, repeats) in enumerate(((240, 4), (480, 8), (960, 4)), 1):
        for b in range(repeats):
            name = f"layer{s}_{b}"
            end = f"stage{s}" if b == repeats - 1 else f"{name}_out"
            if b == 0:
                # The shortcut's channels are counted in the width.
                y = _branch(made, x, width - made.channels(x), 2, name)
                x = _halved(made, x, name)
                x = made.concat([y, x], name=f"{end}_preact")
            else:
                y = _branch(made, x, width, 1, name)
                x = layers.Add(name=f"{end}_preact")([y, x])
            x = made.relu(x, name=end)
    return made.classify(x, classes)


def _branch(made, x, width, stride, name):
    # The 24 channels of the stem are too few to group.
    groups = 1 if made.channels(x) == 24 else GROUPS
    x = made.conv(x, width // 4, 1, name=f"{name}_conv1", groups=groups)
    x = made.relu(made.norm(x, name=f"{name}_bn1"), name=f"{name}_relu1")
    if groups > 1:
        x = made.shuffle(x, groups, name=f"{name}_shuffle")
    x = made.depthwise(x, stride, name=f"{name}_conv2")
    x = made.relu(made.norm(x, name=f"{name}_bn2"), name=f"{name}_relu2")
    x = made.conv(x, width, 1, name=f"{name}_conv3", groups=GROUPS)
    return made.norm(x, name=f"{name}_bn3")


def _halved(made, x, name):
    # Zeros of the border count in the mean, which "same" would leave out.
    x = made.pad(x, name=f"{name}_shortcut_pad")
    return layers.AveragePooling2D(
        3, 2, data_format=made.data_format, name=f"{name}_shortcut"
    )(x)
