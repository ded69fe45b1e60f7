"""A function of a model's variables, compiled where eager execution is slow.

The three backends stand here together: each has a line or two of its own.
"""

import functools

import keras


def jit(variables, function):
    """The function, compiled once for each shape of its arguments.

    It reads the variables as they are at each call, and assigns none: what a layer
    would keep (statistics, a random state) is forgotten. `value_and_gradient` may
    stand inside.

    Args:
        variables: All variables that the function reads. They travel with its
            arguments, so that a compiled function holds no constants.
        function: Of tensors, or `None`; returns nested tensors without a record of
            how they came about.

    Returns:
        A function of the same arguments.
    """
    return _JIT[keras.backend.backend()](variables, function)


def _stateless(function, mapping, *args):
    with keras.StatelessScope(mapping):
        return function(*args)


def _jax(variables, function):
    import jax

    from keras_dtkd.backend.jax import place

    def run(values, args):
        mapping = list(zip(variables, values, strict=True))
        return _stateless(function, mapping, *args)

    run = jax.jit(run)
    return lambda *args: run(place(variables), args)


def _tensorflow(variables, function):
    import tensorflow as tf

    # A graph reads variables where they are. TensorFlow counts how often the code of a
    # function is traced: a `lambda` of this line would be one for all models.
    run = functools.partial(_stateless, function, [])
    # Keras's layers need no autograph.
    return tf.function(run, autograph=False)


def _torch(variables, function):
    import torch

    def run(*args):
        with torch.no_grad():
            return _stateless(function, [], *args)

    return run


_JIT = {"jax": _jax, "tensorflow": _tensorflow, "torch": _torch}
