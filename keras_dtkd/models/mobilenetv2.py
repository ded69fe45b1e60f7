"""MobileNetV2 of half width."""

from keras import layers

from keras_dtkd.models.builder import LayerBuilder, small_normal, zeros

# Expansion, width, repeats, stride of the first block; widths are already halved. The
# strides of the second group and of the stem are those for 32x32 images.
GROUPS = (
    (1, 8, 1, 1),
    (6, 12, 2, 1),
    (6, 16, 3, 2),
    (6, 32, 4, 2),
    (6, 48, 3, 1),
    (6, 80, 3, 2),
    (6, 160, 1, 1),
)
# The groups whose outputs the literature uses as feature maps.
STAGES = {1: "stage1", 2: "stage2", 4: "stage3", 6: "stage4"}


def mobilenetv2(inputs, classes, data_format):
    """A MobileNetV2 of half width, except for the 1280 features before the logits.

    Its stages have linear outputs, and therefore no `"…_preact"`.

    Args:
        inputs: Symbolic images.
        classes: Number of logits.
        data_format: `"channels_last"` or `"channels_first"`.

    Returns:
        Logits.

    Reference:
        Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", arXiv
        1801.04381, whose ReLU6 is a plain ReLU in the distillation literature.
    """
    builder = LayerBuilder(data_format)
    x = builder.conv(inputs, 16, 3, 2, name="conv1_0")
    x = builder.relu(builder.batch_norm(x, name="conv1_1"), name="stem")
    for g, (expansion, width, repeats, stride) in enumerate(GROUPS):
        for b in range(repeats):
            x = _block(
                builder, x, expansion, width, 1 if b else stride, f"blocks_{g}_{b}"
            )
        if g in STAGES:
            x = builder.named_identity(x, STAGES[g])
    x = builder.conv(x, 1280, 1, name="conv2_0")
    x = builder.relu(builder.batch_norm(x, name="conv2_1"), name="conv2_relu")
    return builder.classifier_head(x, classes, kernel=small_normal, bias=zeros)


def _block(builder, x, expansion, width, stride, name):
    # The first convolution is kept even at an expansion of 1.
    y = builder.conv(x, expansion * builder.channels(x), 1, name=f"{name}_conv_0")
    y = builder.relu(
        builder.batch_norm(y, name=f"{name}_conv_1"), name=f"{name}_conv_2"
    )
    y = builder.depthwise(y, stride, name=f"{name}_conv_3")
    y = builder.relu(
        builder.batch_norm(y, name=f"{name}_conv_4"), name=f"{name}_conv_5"
    )
    y = builder.batch_norm(
        builder.conv(y, width, 1, name=f"{name}_conv_6"), name=f"{name}_conv_7"
    )
    if stride != 1 or builder.channels(x) != width:
        return y
    return layers.Add(name=f"{name}_out")([x, y])
