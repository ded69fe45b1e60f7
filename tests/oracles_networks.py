"""Small networks as Keras layers and as float64 NumPy references, without our code.

The NumPy forward passes accept complex numbers, so that derivatives by a complex step
are exact to rounding. BatchNorm is in training mode.
"""

from typing import Any, NamedTuple

import keras
import numpy as np

from tests.oracles import log_softmax, softmax

STEP, CLASSES = 1e-30, 3


class Network(NamedTuple):
    """The shape of a sample, the layers, and the NumPy function of `(x, *weights)`."""

    shape: tuple
    layers: Any
    forward: Any


@keras.saving.register_keras_serializable("tests")
class SelfAttention(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attention = keras.layers.MultiHeadAttention(2, 3)

    def build(self, shape):
        self.attention.build(shape, shape)
        self.built = True

    def call(self, x):
        return self.attention(x, x)


def _dense(x, a, b, c, d):
    return np.tanh(x @ a + b) @ c + d


def _conv(x, kernel, bias, c, d):
    size = x.shape[1] - 2
    offsets = [(i, j) for i in range(3) for j in range(3)]
    z = sum(x[:, i : i + size, j : j + size] @ kernel[i, j] for i, j in offsets)
    return np.tanh(z + bias).mean((1, 2)) @ c + d


def _normalized(z, axis):
    centered = z - z.mean(axis, keepdims=True)
    return centered / np.sqrt((centered**2).mean(axis, keepdims=True) + 1e-3)


def _batch_norm(x, a, b, gamma, beta, mean, variance, c, d):
    return np.tanh(gamma * _normalized(x @ a + b, 0) + beta) @ c + d


def _layer_norm(x, a, b, gamma, beta, c, d):
    return np.tanh(gamma * _normalized(x @ a + b, -1) + beta) @ c + d


def _attention(x, wq, bq, wk, bk, wv, bv, wo, bo, c, d):
    q, k, v = (
        np.einsum("btd,dhk->bhtk", x, w) + b[:, None]
        for w, b in ((wq, bq), (wk, bk), (wv, bv))
    )
    scores = softmax(q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]))
    z = np.einsum("bhtk,hkd->btd", scores @ v, wo) + bo
    return np.tanh(z).mean(1) @ c + d


_L = keras.layers
NETWORKS = {
    "dense": Network(
        (5,), lambda: [_L.Dense(6), _L.Activation("tanh"), _L.Dense(CLASSES)], _dense
    ),
    "conv": Network(
        (5, 5, 2),
        lambda: [
            _L.Conv2D(3, 3),
            _L.Activation("tanh"),
            _L.GlobalAveragePooling2D(),
            _L.Dense(CLASSES),
        ],
        _conv,
    ),
    "batch norm": Network(
        (5,),
        lambda: [
            _L.Dense(6),
            _L.BatchNormalization(),
            _L.Activation("tanh"),
            _L.Dense(CLASSES),
        ],
        _batch_norm,
    ),
    "layer norm": Network(
        (5,),
        lambda: [
            _L.Dense(6),
            _L.LayerNormalization(),
            _L.Activation("tanh"),
            _L.Dense(CLASSES),
        ],
        _layer_norm,
    ),
    "attention": Network(
        (4, 6),
        lambda: [
            SelfAttention(),
            _L.Activation("tanh"),
            _L.GlobalAveragePooling1D(),
            _L.Dense(CLASSES),
        ],
        _attention,
    ),
}


def build(name, seed=0):
    """The Keras model, with random weights."""
    network, rng = NETWORKS[name], np.random.default_rng(seed)
    model = keras.Sequential([keras.Input(network.shape), *network.layers()])
    values = [rng.uniform(0.3, 0.9, w.shape) for w in model.weights]
    signs = [rng.choice([-1.0, 1.0], w.shape) for w in model.weights]
    # Variances must be positive.
    model.set_weights(
        [
            value if "variance" in w.path else value * sign
            for w, value, sign in zip(model.weights, values, signs, strict=True)
        ]
    )
    return model


def draw_data(name, samples=4, seed=9):
    """Random inputs, float64 of float32 precision, and integer labels."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, *NETWORKS[name].shape)).astype("float32")
    return x.astype("float64"), np.arange(samples) % CLASSES


def losses(name, weights, x, y):
    """The cross-entropy of each sample, `(batch,)`."""
    log_probs = log_softmax(NETWORKS[name].forward(x, *weights))
    return -log_probs[np.arange(len(y)), y]


def along(name, weights, x, y, v):
    """The derivative of each sample's loss in a direction of the inputs."""
    return np.imag(losses(name, weights, x + STEP * 1j * v, y)) / STEP


def gradient(name, weights, x, y):
    """The gradient of the sum of losses with respect to the inputs."""
    result = np.empty(x.size)
    for i in range(x.size):
        step = np.zeros(x.size)
        step[i] = 1.0
        result[i] = along(name, weights, x, y, step.reshape(x.shape)).sum()
    return result.reshape(x.shape)
