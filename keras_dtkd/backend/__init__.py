"""The few things that Keras does not do the same way on every backend.

The only folder that may import `tensorflow`, `jax` or `torch`, and only inside
functions. The methods of `base.Backend` are functions of this module, on the backend
that Keras runs on: `backend.no_grad()`.
"""

import functools
import importlib

import keras

from keras_dtkd.backend import base

_CLASSES = {
    "jax": "JaxBackend",
    "tensorflow": "TensorFlowBackend",
    "torch": "TorchBackend",
}


def backend_name():
    """The backend Keras runs on: `"tensorflow"`, `"jax"` or `"torch"`."""
    return keras.backend.backend()


@functools.cache
def current():
    """The `base.Backend` of the backend Keras runs on."""
    name = backend_name()
    module = importlib.import_module(f"keras_dtkd.backend.{name}")
    return getattr(module, _CLASSES[name])()


def __getattr__(name):
    if name.startswith("_") or not hasattr(base.Backend, name):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(current(), name)


def new_session():
    """A `base.Session` on the backend Keras runs on."""
    return base.Session(current())


def value_and_grad(function, x):
    """A scalar function's value and gradient at a tensor `x`, outside of any step.

    The gradient is 0 where the function does not depend on `x`.
    """
    # Imported here: it needs what is in this file.
    from keras_dtkd.backend import autodiff

    with current().no_grad():
        return autodiff.value_and_input_grad(function, x)


def with_fixed_rng(function):
    """The function, whose every call draws the same random numbers.

    Only the first one advances the generator, from which layers without a seed draw
    under torch. Keras's own seeds are for the caller to reset, in a
    `keras.StatelessScope`. Cannot be called inside of `jvp`.
    """
    before, after = current().get_rng_state(), []

    def call(*args):
        current().set_rng_state(before)
        result = function(*args)
        after.append(current().get_rng_state())
        current().set_rng_state(after[0])
        return result

    return call
