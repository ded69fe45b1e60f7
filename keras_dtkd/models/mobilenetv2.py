"""MobileNetV2 of half width."""

import keras
from keras import layers

from keras_dtkd.models.builder import LayerBuilder

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

    Its stages have linear outputs, and so no `"…_preact"`.

    Reference:
        Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", arXiv
        1801.04381, whose ReLU6 is a plain ReLU in the distillation literature.
    """
    builder = LayerBuilder(data_format)
    x = builder.conv_norm(inputs, 16, 3, 2, names=("conv1_0", "conv1_1", "stem"))
    for g, (expansion, width, repeats, stride) in enumerate(GROUPS):
        for b in range(repeats):
            name, channels = f"blocks_{g}_{b}", builder.channels(x)
            names = [f"{name}_conv_{i}" for i in range(8)]
            # The first convolution is kept even at an expansion of 1.
            y = builder.conv_norm(x, expansion * channels, 1, names=names[:3])
            y = builder.conv_norm(y, None, 3, 1 if b else stride, names=names[3:6])
            y = builder.conv_norm(y, width, 1, names=names[6:])
            x = layers.Add(name=f"{name}_out")([x, y]) if x.shape == y.shape else y
        if g in STAGES:
            x = layers.Identity(name=STAGES[g])(x)
    x = builder.conv_norm(x, 1280, 1, names=("conv2_0", "conv2_1", "conv2_relu"))
    kernel = keras.initializers.RandomNormal(stddev=0.01)
    return builder.classifier_head(x, classes, kernel, bias="zeros")
