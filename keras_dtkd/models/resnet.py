"""ResNets of the CIFAR literature, plain and wide."""

from keras import layers

from keras_dtkd.models.builder import LayerBuilder, layer_names


def resnet(
    inputs,
    classes,
    data_format,
    repeats,
    width=16,
    stem=16,
    shortcut="downsample",
    bottleneck=False,
):
    """A ResNet with a 3x3 stem of stride 1 and no pooling.

    `repeats` is the number of blocks in each stage, `width` the number of channels of
    the first, which each further stage doubles. The 3x3 convolution of a bottleneck has
    its stride, and the scale of its last batch norm is not initialized to zero.

    Reference:
        He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385,
        section 4.2, whose shortcuts across widths have no parameters (option A). The
        distillation literature projects them (option B), hence 278,324 parameters in a
        resnet20 of 100 classes.
    """
    builder = LayerBuilder(data_format)
    x = builder.conv_norm(inputs, stem, 3, names=("conv1", "bn1", "stem"))
    for s, num_blocks in enumerate(repeats):
        filters = width * 2**s
        for b in range(num_blocks):
            name, stride = f"layer{s + 1}_{b}", 2 if s and b == 0 else 1
            convs = [(filters, 3, stride), (filters, 3, 1)]
            if bottleneck:
                convs = [(filters, 1, 1), (filters, 3, stride), (4 * filters, 1, 1)]
            y = x
            for i, conv in enumerate(convs, 1):
                names = layer_names(name, i)
                # The last ReLU follows the sum.
                y = builder.conv_norm(y, *conv, names=names[: 2 + (i < len(convs))])
            # A projection wherever the shape changes, even if only the width does.
            if x.shape != y.shape:
                names = [f"{name}_{shortcut}_{i}" for i in (0, 1)]
                x = builder.conv_norm(x, builder.channels(y), 1, stride, names=names)
            output = f"stage{s + 1}" if b == num_blocks - 1 else f"{name}_out"
            x = layers.Add(name=f"{output}_preact")([y, x])
            x = layers.ReLU(name=output)(x)
    return builder.classifier_head(x, classes)


def wide_resnet(inputs, classes, data_format, depth, factor):
    """A ResNet of `6n + 4` layers whose stages are `factor` times as wide.

    Batch norm and ReLU come before each convolution. `"stem"` and the stages are the
    raw sums; `"stage1_preact"` etc. are the outputs of the next batch norm. The
    reference calls these batch norms a second time, which updates their statistics
    twice a step (0.81 old + 0.19 new); here they are called once.

    Reference:
        Zagoruyko and Komodakis, "Wide Residual Networks", arXiv 1605.07146.
    """
    builder = LayerBuilder(data_format)
    output = "stem"
    x = layers.Identity(name=output)(builder.conv(inputs, 16, 3, name="conv1"))
    repeats = (depth - 4) // 6
    for s, width in enumerate((16 * factor, 32 * factor, 64 * factor), 1):
        for b in range(repeats):
            name = f"block{s}_layer_{b}"
            stride = 2 if s > 1 and b == 0 else 1
            y = _norm_relu(builder, x, f"{name}_bn1", output)
            # A projection takes the activated input, an identity the raw one.
            if builder.channels(x) != width:
                x = builder.conv(y, width, 1, stride, name=f"{name}_convShortcut")
            names = [f"{name}_{layer}" for layer in ("conv1", "bn2", "relu2")]
            y = builder.conv_norm(y, width, 3, stride, names=names)
            y = builder.conv(y, width, 3, name=f"{name}_conv2")
            output = f"stage{s}" if b == repeats - 1 else f"{name}_out"
            x = layers.Add(name=output)([y, x])
    x = _norm_relu(builder, x, "bn1", output)
    return builder.classifier_head(x, classes, bias="zeros")


def _norm_relu(builder, x, norm, output):
    x = builder.batch_norm(x, name=norm)
    x = layers.Identity(name=f"{output}_preact")(x)
    return layers.ReLU(name=f"{output}_relu")(x)
