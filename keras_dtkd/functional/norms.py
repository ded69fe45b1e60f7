"""Euclidean norms that are differentiable at 0."""

import keras
from keras import ops

# The square root has no gradient at 0.
EPSILON = 1e-12


def squared_norm(values):
    """The sum of squares of each sample, `(batch,)`, over all other axes.

    `values` are `(batch, ...)`, or a nested structure of such tensors.
    """
    leaves = [ops.reshape(a, (ops.shape(a)[0], -1)) for a in keras.tree.flatten(values)]
    squares = [ops.sum(a * a, axis=-1) for a in leaves]
    return sum(squares[1:], start=squares[0])


def normalize(values, weights=1.0):
    """Values divided by their norm along the last axis, 0 where it is 0.

    `weights` of the entries count in the norm alone.
    """
    squares = ops.sum(weights * values**2, axis=-1, keepdims=True)
    return values * ops.rsqrt(squares + EPSILON)


def safe_sqrt(squares):
    """`sqrt(s + 1e-12) − 1e-6`: 0 at 0, and so is the gradient of what was squared.

    `squares` are not negative, of any shape. Computed without the difference, which
    would lose digits.
    """
    return squares / (ops.sqrt(squares + EPSILON) + EPSILON**0.5)


def absolute(x):
    """`|x|`, with the gradient 0 at 0 on every backend; JAX's own is 1 there."""
    return x * ops.sign(x)
