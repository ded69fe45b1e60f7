"""How far an input may go, and the steepest way up within it."""

from typing import Any

import numpy as np
from keras import ops


class Linf:
    """Each number moves by at most `epsilon`.

    Args:
        epsilon: float32 array that broadcasts against one input.
    """

    def __init__(self, epsilon):
        self.epsilon = epsilon

    def draw(self, rng, shape):
        """Offsets `shape`, uniform in the ball, NumPy."""
        return self.epsilon * rng.uniform(-1.0, 1.0, shape)

    def steepest(self, gradient):
        """The offset of size 1 along which a loss rises most."""
        return ops.sign(gradient)

    def project(self, offset):
        """The nearest offset in the ball."""
        return ops.minimum(ops.maximum(offset, -self.epsilon), self.epsilon)


class L2:
    """The Euclidean length of an input's offset is at most `epsilon`.

    Args:
        epsilon: A float32 number.
    """

    def __init__(self, epsilon):
        self.epsilon = epsilon

    def draw(self, rng, shape):
        """Offsets `shape`, uniform in the ball, NumPy."""
        offset = rng.standard_normal(shape).reshape(shape[0], -1)
        dimensions = offset.shape[1]
        length = np.sqrt(np.square(offset).sum(-1, keepdims=True))
        radius = rng.uniform(size=(shape[0], 1)) ** (1 / dimensions)
        return (self.epsilon * radius * offset / length).reshape(shape)

    def steepest(self, gradient):
        """The offset of size 1 along which a loss rises most; 0 where none does."""
        # The greatest part is 1 now, unless all are 0.
        gradient = unit(gradient)
        return gradient / ops.maximum(length(gradient), 1e-12)

    def project(self, offset):
        """The nearest offset in the ball."""
        lengths = ops.maximum(length(offset), 1e-12)
        return offset * ops.minimum(ops.divide(self.epsilon, lengths), 1.0)


NORM_BALLS: dict[str, Any] = {"linf": Linf, "l2": L2}


def unit(gradient):
    """Gradients whose greatest part is ±1: a confident model's squares underflow."""
    greatest = ops.max(ops.abs(gradient), _parts(gradient), keepdims=True)
    return gradient / ops.where(greatest > 0, greatest, 1.0)


def share(gradient):
    """Gradients whose absolute parts sum to 1; 0 where all are 0."""
    gradient = unit(gradient)
    total = ops.sum(ops.abs(gradient), _parts(gradient), keepdims=True)
    return gradient / ops.maximum(total, 1e-12)


def length(offset):
    """Euclidean, of each input; the axes stay."""
    return ops.sqrt(ops.sum(ops.square(offset), _parts(offset), keepdims=True))


def _parts(x):
    return tuple(range(1, len(x.shape)))
