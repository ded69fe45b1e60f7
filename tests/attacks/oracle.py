"""Reference attacks in float64 NumPy, on a network with an analytic gradient."""

import keras
import numpy as np

FEATURES, HIDDEN, CLASSES = 6, 9, 4


def weights(seed=0):
    """Weights of a network with one tanh layer."""
    rng = np.random.default_rng(seed)
    return [
        rng.normal(size=(FEATURES, HIDDEN)).astype("float32"),
        rng.normal(size=HIDDEN).astype("float32"),
        rng.normal(size=(HIDDEN, CLASSES)).astype("float32"),
        rng.normal(size=CLASSES).astype("float32"),
    ]


def network(activation=None, seed=0):
    """The network in Keras."""
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(HIDDEN, activation="tanh"),
            keras.layers.Dense(CLASSES, activation=activation),
        ]
    )
    model.set_weights(weights(seed))
    return model


def inputs(samples=32, seed=1):
    """Inputs in [0, 1], some of them 0 or 1, and random labels."""
    rng = np.random.default_rng(seed)
    x = np.clip(rng.uniform(-0.2, 1.2, (samples, FEATURES)), 0, 1).astype("float32")
    return x, rng.integers(CLASSES, size=samples)


def softmax(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


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


def iterate(
    x, y, epsilon, steps, step_size, ball="linf", momentum=0.0, sign=1.0, clip=True
):
    """The iterative attack from `x`, without a random start."""
    x_adv, accumulated = x.astype("float64"), np.zeros(x.shape)
    for _ in range(steps):
        slope = sign * gradient(x_adv, y)
        accumulated = momentum * accumulated + slope / norm(slope, 1)
        if ball == "linf":
            perturbation = x_adv + step_size * np.sign(accumulated) - x
            perturbation = np.clip(perturbation, -epsilon, epsilon)
        else:
            direction = accumulated / norm(accumulated, 2)
            perturbation = x_adv + step_size * direction - x
            perturbation *= np.minimum(1, epsilon / norm(perturbation, 2))
        x_adv = x + perturbation
        if clip:
            x_adv = np.clip(x_adv, 0, 1)
    return x_adv
