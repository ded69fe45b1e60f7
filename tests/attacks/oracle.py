"""The attacks again, in float64 NumPy, on networks whose gradient is written out."""

import keras
import numpy as np

FEATURES, HIDDEN, CLASSES = 6, 9, 4


def weights(seed=0):
    """Of a network with one layer of tanh."""
    rng = np.random.default_rng(seed)
    return [
        rng.normal(size=(FEATURES, HIDDEN)).astype("float32"),
        rng.normal(size=HIDDEN).astype("float32"),
        rng.normal(size=(HIDDEN, CLASSES)).astype("float32"),
        rng.normal(size=CLASSES).astype("float32"),
    ]


def network(head=None, seed=0):
    """That network in Keras."""
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(HIDDEN, activation="tanh"),
            keras.layers.Dense(CLASSES, activation=head),
        ]
    )
    model.set_weights(weights(seed))
    return model


def inputs(samples=32, seed=1):
    """Inputs from 0 to 1, some of them at the ends, and any labels."""
    rng = np.random.default_rng(seed)
    x = np.clip(rng.uniform(-0.2, 1.2, (samples, FEATURES)), 0, 1).astype("float32")
    return x, rng.integers(CLASSES, size=samples)


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def logits(x, seed=0):
    a, b, c, d = weights(seed)
    return np.tanh(x.astype("float64") @ a + b) @ c + d


def cross_entropy(x, y, seed=0):
    return -np.log(softmax(logits(x, seed))[np.arange(len(x)), y])


def gradient(x, y, seed=0):
    a, b, c, _ = weights(seed)
    h = np.tanh(x.astype("float64") @ a + b)
    error = softmax(logits(x, seed)) - np.eye(CLASSES)[y]
    return ((error @ c.T) * (1 - h**2)) @ a.T


def norm(v, order):
    return np.linalg.norm(v, order, axis=-1, keepdims=True)


def ascend(x, y, epsilon, steps, step, kind="linf", momentum=0.0, up=1.0, limits=True):
    """From `x`, without a random start."""
    there, g = x.astype("float64"), np.zeros(x.shape)
    for _ in range(steps):
        slope = up * gradient(there, y)
        g = momentum * g + slope / norm(slope, 1)
        if kind == "linf":
            offset = there + step * np.sign(g) - x
            offset = np.clip(offset, -epsilon, epsilon)
        else:
            offset = there + step * g / norm(g, 2) - x
            offset = offset * np.minimum(1, epsilon / norm(offset, 2))
        there = x + offset
        if limits:
            there = np.clip(there, 0, 1)
    return there
