"""VGG networks."""

import keras
from keras import layers

from keras_dtkd.models.builder import LayerBuilder


def vgg(inputs, classes, data_format, repeats):
    """A VGG with batch norm, one linear layer, and `repeats` convolutions in a stage.

    Reference:
        Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
        Recognition", arXiv 1409.1556, with the changes of the distillation literature.
    """
    builder = LayerBuilder(data_format)
    sides = inputs.shape[1:3] if data_format == "channels_last" else inputs.shape[2:]
    # Only 64x64 images have a fourth pooling; otherwise stages 4 and 5 share a size.
    num_pooled = 4 if sides == (64, 64) else 3
    x = inputs
    for s, filters in enumerate((64, 128, 256, 512, 512), 1):
        for i in range(repeats[s - 1]):
            # The reference numbers convolution, norm and ReLU from 0 in each block.
            names = [f"block{s - 1}_{3 * i + k}" for k in (0, 1)]
            output = f"stage{s}" if i == repeats[s - 1] - 1 else f"{names[0]}_out"
            # The reference has a bias although a batch norm follows.
            x = builder.conv_norm(x, filters, 3, names=names, bias=True)
            x = layers.Identity(name=f"{output}_preact")(x)
            x = layers.ReLU(name=output)(x)
        if s <= num_pooled:
            x = layers.MaxPooling2D(
                2, 2, data_format=data_format, name=f"stage{s}_pool"
            )(x)
    kernel = keras.initializers.RandomNormal(stddev=0.01)
    return builder.classifier_head(x, classes, kernel, bias="zeros")
