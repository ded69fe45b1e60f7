"""Derivatives of a function with respect to its inputs, inside a training step.

Keras has a public `keras.ops.jvp` in its newer versions and no gradient in any so far.
All that is here can be differentiated once more, with respect to whatever the function
closes over: the weights of a model.

A function that reads a layer's state (BatchNorm's statistics, a dropout's seed) must
not assign it: a value from within a derivative means nothing outside under JAX. Call
the model inside a `keras.StatelessScope`, hand the new values out with `has_aux=True`,
and assign them afterwards. `aux` is a nested structure of tensors, without `None`.
"""

import importlib

import keras
from keras import ops

from keras_dtkd import backend
from keras_dtkd.backend import fixed_rng

# Cube root of float32's precision: where rounding and curvature cost about the same.
FINITE_DIFFERENCE_STEP = 5e-3


def _current():
    return importlib.import_module(
        f"keras_dtkd.backend.autodiff.{backend.backend_name()}"
    )


def value_and_input_grad(fn, x, has_aux=False):
    """A function's value and its gradient with respect to its inputs.

    Under torch attention is computed by the kernel that has a second derivative, and
    where no gradient is recorded (`torch.no_grad`), the results are constants.

    Args:
        fn: From `x` to a scalar, or to `(scalar, aux)`. For gradients of each sample
            let it sum over the batch.
        x: A float tensor, or a nested structure of them.
        has_aux: Whether the function gives `aux` too.

    Returns:
        `(value, gradient)`, or `((value, aux), gradient)`. The gradient is nested as
        `x`, and 0 where the function does not depend on it.

    Example:

    >>> value_and_input_grad(lambda x: ops.sum(x**2), ops.array([1.0, 2.0]))
    (5.0, [2.0, 4.0])
    """
    (value, aux), gradient = _current().value_and_input_grad(
        _with_aux(fn, has_aux), _tensors(x)
    )
    return _result(value, aux, gradient, has_aux)


def jvp(fn, x, v, has_aux=False):
    """A function's value and how it changes along a direction, in one forward pass.

    Forward mode: it costs about two evaluations, whatever the shape of the value.
    TensorFlow takes long to compile it with XLA (half a minute and more for a small
    network): pass `jit_compile=False` there.

    Args:
        fn: From `x` to a tensor, or to `(tensor, aux)`.
        x: A float tensor, or a nested structure of them.
        v: The direction, nested and shaped as `x`.
        has_aux: Whether the function gives `aux` too.

    Returns:
        `(value, tangent)`, or `((value, aux), tangent)`. The tangent has the shape of
        the value.

    Example:

    >>> jvp(lambda x: x**2, ops.array([1.0, 2.0]), ops.array([1.0, 10.0]))
    ([1.0, 4.0], [2.0, 40.0])
    """
    (value, aux), tangent = _current().jvp(
        _with_aux(fn, has_aux), _tensors(x), _tensors(v)
    )
    return _result(value, aux, tangent, has_aux)


def finite_difference(fn, x, v, has_aux=False, step=FINITE_DIFFERENCE_STEP):
    """As `jvp`, from the function's values alone, `(f(x + hv) − f(x − hv)) / 2h`.

    Three evaluations and no derivative of a derivative: it works with any layer. All of
    them draw the same random numbers, once. The error is of order `h²`, and `1e-7 / h`
    of rounding.

    Args:
        fn: As in `jvp`. `aux` is that of `fn(x)`.
        x: As in `jvp`.
        v: As in `jvp`.
        has_aux: As in `jvp`.
        step: The h.

    Returns:
        As `jvp`.
    """
    fn, x, v = (
        fixed_rng.with_fixed_rng(_with_aux(fn, has_aux)),
        _tensors(x),
        _tensors(v),
    )

    def moved(h):
        return keras.tree.map_structure(lambda a, b: a + h * b, x, v)

    value, aux = fn(x)
    ahead, behind = fn(moved(step))[0], fn(moved(-step))[0]
    return _result(value, aux, (ahead - behind) / (2 * step), has_aux)


def _with_aux(fn, has_aux):
    return fn if has_aux else lambda x: (fn(x), ())


def _result(value, aux, derivative, has_aux):
    return ((value, aux) if has_aux else value), derivative


def _tensors(x):
    return keras.tree.map_structure(ops.convert_to_tensor, x)
