"""Value and gradient of a function, on whichever backend Keras runs."""

import keras
import numpy as np
from keras import ops


def value_and_grad(function, array, compiled=False, dtype="float32"):
    """A function's values, and the gradient of their sum.

    Args:
        function: From a tensor to a tensor of any shape.
        array: Where to take both.
        compiled: Whether the backend compiles value and gradient together.
        dtype: Of the tensor that the function gets.

    Returns:
        The values and the gradient, float32 NumPy arrays.
    """
    x = ops.convert_to_tensor(np.asarray(array, "float32"), dtype=dtype)
    return differentiate(function, compiled)(x)


def gradient(function, array, **kwargs):
    """The second of `value_and_grad`."""
    return value_and_grad(function, array, **kwargs)[1]


def differentiate(function, compiled=True):
    """From a function to one that gives its values, and the gradient of their sum.

    Compiled means XLA on TensorFlow and JAX, once for each shape. Under torch it
    changes nothing: Keras trains there eagerly by default, and tracing one
    loss by `torch.compile` takes 8 to 45 seconds.

    Args:
        function: From tensors to a tensor of any shape.
        compiled: Whether the backend compiles value and gradient together.

    Returns:
        A function of the same tensors. The gradient is with respect to the first; both
        results are float32 NumPy arrays.
    """
    both = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
    both = both[keras.backend.backend()](function, compiled)

    def to_numpy(*tensors):
        return tuple(
            ops.convert_to_numpy(ops.cast(r, "float32")) for r in both(*tensors)
        )

    return to_numpy


def _tensorflow(function, compiled):
    import tensorflow as tf

    def both(x, *others):
        with tf.GradientTape() as tape:
            tape.watch(x)
            values = function(x, *others)
        return values, tape.gradient(values, x, unconnected_gradients="zero")

    return tf.function(both, jit_compile=True) if compiled else both


def _jax(function, compiled):
    import jax

    def total(x, *others):
        values = function(x, *others)
        return values.sum(), values

    def both(x, *others):
        (_, values), grad = jax.value_and_grad(total, has_aux=True)(x, *others)
        return values, grad

    return jax.jit(both) if compiled else both


def _torch(function, compiled):
    import torch

    def both(x, *others):
        x = x.detach().requires_grad_(True)
        values = function(x, *others)
        if not values.requires_grad:
            return values, torch.zeros_like(x)
        (grad,) = torch.autograd.grad(values.sum(), x, allow_unused=True)
        return values.detach(), torch.zeros_like(x) if grad is None else grad

    return both
