"""Value and gradient of a function, on whichever backend Keras runs."""

import keras
import numpy as np
from keras import ops


def value_and_grad(function, array, compiled=False, dtype="float32"):
    """A function's values, and the gradient of their sum.

    Compiled means XLA on TensorFlow and JAX. Under torch it changes nothing: Keras
    trains there eagerly unless told otherwise, and tracing one loss by
    `torch.compile` takes 8 to 45 seconds.

    Args:
        function: From a tensor to a tensor of any shape.
        array: Where to take both.
        compiled: Whether the backend compiles value and gradient together.
        dtype: Of the tensor that the function gets.

    Returns:
        The values and the gradient, float32 NumPy arrays.
    """
    x = ops.convert_to_tensor(np.asarray(array, "float32"), dtype=dtype)
    both = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
    results = both[keras.backend.backend()](function, x, compiled)
    return tuple(ops.convert_to_numpy(ops.cast(r, "float32")) for r in results)


def gradient(function, array, **kwargs):
    """The second of `value_and_grad`."""
    return value_and_grad(function, array, **kwargs)[1]


def _tensorflow(function, x, compiled):
    import tensorflow as tf

    def both(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            values = function(x)
        return values, tape.gradient(values, x, unconnected_gradients="zero")

    return tf.function(both, jit_compile=True)(x) if compiled else both(x)


def _jax(function, x, compiled):
    import jax

    def total(x):
        values = function(x)
        return values.sum(), values

    both = jax.value_and_grad(total, has_aux=True)
    (_, values), grad = (jax.jit(both) if compiled else both)(x)
    return values, grad


def _torch(function, x, compiled):
    import torch

    x = x.detach().requires_grad_(True)
    values = function(x)
    if not values.requires_grad:
        return values, torch.zeros_like(x)
    (grad,) = torch.autograd.grad(values.sum(), x, allow_unused=True)
    return values.detach(), torch.zeros_like(x) if grad is None else grad
