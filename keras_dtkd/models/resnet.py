"""ResNets of the CIFAR literature."""

from keras import layers

from keras_dtkd.models.builder import LayerBuilder


def cifar_resnet(inputs, classes, data_format, depth, width=16, stem=16):
    """A ResNet of `6n + 2` layers in three stages.

    Args:
        inputs: Symbolic images.
        classes: Number of logits.
        data_format: `"channels_last"` or `"channels_first"`.
        depth: 8, 14, 20, ...
        width: Channels of the first stage; each further stage doubles them.
        stem: Channels of the stem.

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
    """ImageNet's ResNet of 18 layers with a 3x3 stem of stride 1 and no pooling."""
    stages = [(64, 2, 1), (128, 2, 2), (256, 2, 2), (512, 2, 2)]
    return _resnet(inputs, classes, data_format, 64, stages, _basic, "shortcut")


def resnet50(inputs, classes, data_format):
    """ImageNet's ResNet of 50 layers with a 3x3 stem of stride 1 and no pooling.

    The 3x3 convolution of a bottleneck has its stride, and the scale of its last batch
    norm is not initialized to zero. For arguments and result see `cifar_resnet`.
    """
    stages = [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)]
    return _resnet(inputs, classes, data_format, 64, stages, _bottleneck, "shortcut")


def _resnet(inputs, classes, data_format, stem, stages, block, shortcut):
    builder = LayerBuilder(data_format)
    x = builder.conv(inputs, stem, 3, name="conv1")
    x = builder.relu(builder.batch_norm(x, name="bn1"), name="stem")
    for s, (width, repeats, stride) in enumerate(stages, 1):
        for b in range(repeats):
            name = f"layer{s}_{b}"
            block_stride = stride if b == 0 else 1
            y = block(builder, x, width, block_stride, name)
            # A projection wherever the shape changes, even if only the width does.
            if block_stride != 1 or builder.channels(x) != builder.channels(y):
                x = builder.conv(
                    x, builder.channels(y), 1, block_stride, name=f"{name}_{shortcut}_0"
                )
                x = builder.batch_norm(x, name=f"{name}_{shortcut}_1")
            output_name = f"stage{s}" if b == repeats - 1 else f"{name}_out"
            x = layers.Add(name=f"{output_name}_preact")([y, x])
            x = builder.relu(x, name=output_name)
    return builder.classifier_head(x, classes)


def _basic(builder, x, width, stride, name):
    x = builder.conv(x, width, 3, stride, name=f"{name}_conv1")
    x = builder.relu(builder.batch_norm(x, name=f"{name}_bn1"), name=f"{name}_relu1")
    x = builder.conv(x, width, 3, name=f"{name}_conv2")
    return builder.batch_norm(x, name=f"{name}_bn2")


def _bottleneck(builder, x, width, stride, name):
    x = builder.conv(x, width, 1, name=f"{name}_conv1")
    x = builder.relu(builder.batch_norm(x, name=f"{name}_bn1"), name=f"{name}_relu1")
    x = builder.conv(x, width, 3, stride, name=f"{name}_conv2")
    x = builder.relu(builder.batch_norm(x, name=f"{name}_bn2"), name=f"{name}_relu2")
    x = builder.conv(x, 4 * width, 1, name=f"{name}_conv3")
    return builder.batch_norm(x, name=f"{name}_bn3")
