"""Convolutional models with attention, and float64 references of it."""

import keras
import numpy as np

from keras_dtkd.core.layer_tree import iter_layers
from keras_dtkd.layers import VirtualAttentionConv2D

SHAPE = 6, 6, 3
X = np.random.default_rng(0).normal(size=(8, *SHAPE)).astype("float32")
Y = np.random.default_rng(1).integers(0, 4, 8)


def convolutions(model):
    return [e for e in iter_layers(model) if isinstance(e, VirtualAttentionConv2D)]


def make_unequal(model, temperature=0.7, seed=0):
    """Gives attention and batch statistics random values."""
    rng = np.random.default_rng(seed)
    for layer in convolutions(model):
        layer.theta.assign(rng.normal(size=layer.theta.shape))
        layer.attention_temperature.assign(temperature)
    for layer in iter_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 2, w.shape) for w in layer.weights])
    return model


def network(conv=keras.layers.Conv2D, seed=0, **options):
    """A small classifier with two convolutions, `conv1` and `conv2`."""
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            conv(6, 3, padding="same", name="conv1", **options),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.ReLU(name="relu"),
            conv(5, 3, name="conv2", **options),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(4),
        ],
        name="network",
    )


def softmax(theta, temperature):
    logits = np.asarray(theta, "float64") / temperature
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def entropy(theta, temperature):
    a = softmax(theta, temperature)
    return -np.where(a > 0, a * np.log(np.where(a > 0, a, 1)), 0).sum(-1).mean()


def slices(channels, blocks):
    """The channels of each block: of equal size, the first ones one larger."""
    blocks, start = min(blocks, channels), 0
    for number in range(blocks):
        stop = start + channels // blocks + (number < channels % blocks)
        yield slice(start, stop)
        start = stop


def scale_kernel(kernel, theta, temperature, blocks, groups=1):
    """Block by block, as the formula has it."""
    a = softmax(theta, temperature)
    scaled = np.array(kernel, "float64")
    filters = scaled.shape[-1] // groups
    q = 0
    for group in range(groups):
        for rows in slices(filters, blocks):
            rows = slice(rows.start + group * filters, rows.stop + group * filters)
            for p, columns in enumerate(slices(scaled.shape[-2], blocks)):
                scaled[:, :, columns, rows] *= a[q, p] * a.shape[1]
            q += 1
    assert q == len(a)
    return scaled
