"""ResNets of the CIFAR literature."""

from keras import layers

from keras_dtkd.models.builder import LayerBuilder


def cifar(inputs, classes, data_format, depth, width=16, stem=16):
    """A ResNet of `6n + 2` layers in three stages.

    Args:
        inputs: Images.
        classes: Number of logits.
        data_format: `"channels_last"` or `"channels_first"`.
        depth: 8, 14, 20, ...
        width: Channels of the first stage, doubled twice.
        stem: Channels before it.

    Returns:
        Logits.

    Reference:
        He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385,
        section 4.2, whose shortcuts across widths have no parameters (option A). The
        distillation literature projects them (option B), hence 278,324 parameters in a
        resnet20 of 100 classes.
    """
    n = (depth - 2) // 6
    stages = [(width, n, 1), (2 * width, n, 2), (4 * width, n, 2)]
    return _resnet(inputs, classes, data_format, stem, stages, _basic, "downsample")


def resnet18(inputs, classes, data_format):
    """ImageNet's ResNet of 18 layers with a 3x3 stem, see `resnet50`."""
    stages = [(64, 2, 1), (128, 2, 2), (256, 2, 2), (512, 2, 2)]
    return _resnet(inputs, classes, data_format, 64, stages, _basic, "shortcut")


def resnet50(inputs, classes, data_format):
    """ImageNet's ResNet of 50 layers with a 3x3 stem of stride 1 and no pooling.

    A bottleneck's stride is that of its 3x3 convolution, and its last batch norm does
    not begin at zero. Arguments and result: see `cifar`.
    """
    stages = [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)]
    return _resnet(inputs, classes, data_format, 64, stages, _bottleneck, "shortcut")


def _resnet(inputs, classes, data_format, stem, stages, block, shortcut):
    made = LayerBuilder(data_format)
    x = made.conv(inputs, stem, 3, name="conv1")
    x = made.relu(made.norm(x, name="bn1"), name="stem")
    for s, (width, repeats, stride) in enumerate(stages, 1):
        for b in range(repeats):
            name = f"layer{s}_{b}"
            first = stride if b == 0 else 1
            y = block(made, x, width, first, name)
            # A projection wherever the shape changes, be it only the width.
            if first != 1 or made.channels(x) != made.channels(y):
                x = made.conv(
                    x, made.channels(y), 1, first, name=f"{name}_{shortcut}_0"
                )
                x = made.norm(x, name=f"{name}_{shortcut}_1")
            end = f"stage{s}" if b == repeats - 1 else f"{name}_out"
            x = layers.Add(name=f"{end}_preact")([y, x])
            x = made.relu(x, name=end)
    return made.classify(x, classes)


def _basic(made, x, width, stride, name):
    x = made.conv(x, width, 3, stride, name=f"{name}_conv1")
    x = made.relu(made.norm(x, name=f"{name}_bn1"), name=f"{name}_relu1")
    x = made.conv(x, width, 3, name=f"{name}_conv2")
    return made.norm(x, name=f"{name}_bn2")


def _bottleneck(made, x, width, stride, name):
    x = made.conv(x, width, 1, name=f"{name}_conv1")
    x = made.relu(made.norm(x, name=f"{name}_bn1"), name=f"{name}_relu1")
    x = made.conv(x, width, 3, stride, name=f"{name}_conv2")
    x = made.relu(made.norm(x, name=f"{name}_bn2"), name=f"{name}_relu2")
    x = made.conv(x, 4 * width, 1, name=f"{name}_conv3")
    return made.norm(x, name=f"{name}_bn3")
