"""Small ResNets of the CIFAR literature, for timing a training step."""

import keras
from keras import layers

SHAPE, CLASSES = (32, 32, 3), 100


def resnet(depth, width=16, name=None):
    """A CIFAR ResNet of `6n + 2` layers: three stages, BatchNorm, no bias in between.

    Args:
        depth: 8, 14, 20, ...
        width: Channels of the first stage; doubled twice.
        name: Name of the model.

    Returns:
        A `keras.Model` from `(32, 32, 3)` to 100 logits.
    """
    inputs = keras.Input(SHAPE)
    x = layers.ReLU()(_conv(inputs, width))
    for stage in range(3):
        for block in range((depth - 2) // 6):
            stride = 2 if stage > 0 and block == 0 else 1
            x = _block(x, width * 2**stage, stride)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(CLASSES)(x), name=name or f"resnet{depth}")


def _block(x, channels, stride):
    y = layers.ReLU()(_conv(x, channels, stride))
    y = _conv(y, channels)
    if x.shape[-1] != channels:
        x = _conv(x, channels, stride, kernel=1)
    return layers.ReLU()(layers.Add()([x, y]))


def _conv(x, channels, stride=1, kernel=3):
    x = layers.Conv2D(channels, kernel, stride, padding="same", use_bias=False)(x)
    # PyTorch's constants, so that both implementations do the same arithmetic.
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)
