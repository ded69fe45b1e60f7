"""Derivatives of a function with respect to its inputs, inside a training step.

Keras has a public `keras.ops.jvp` in its newer versions and no gradient in any so far.
All that is here can be differentiated once more, with respect to whatever the function
closes over: the weights of a model.

A function that reads a layer's state (BatchNorm's statistics, a dropout's seed) must
not assign it: a value from within a derivative means nothing outside under JAX. Call
the model inside a `keras.StatelessScope`, hand the new values out with `has_aux=True`,
and assign them afterwards. `aux` is a nested structure of tensors, without `None`.
"""

import keras
from keras import ops

from keras_dtkd import backend

# Cube root of float32's precision: where rounding and curvature cost about the same.
FINITE_DIFFERENCE_STEP = 5e-3


def value_and_input_grad(fn, x, has_aux=False):
    """A function's value and its gradient with respect to its inputs.

    `fn` is a function of `x`, nested float tensors, to a scalar, or to `(scalar, aux)`.
    For gradients of each sample let it sum over the batch. Returns `(value, gradient)`,
    or `((value, aux), gradient)`; the gradient is 0 where `fn` does not depend on `x`.
    Under `torch.no_grad` the results are constants.
    """
    fn, x = _with_aux(fn, has_aux), _tensors(x)
    return _result(backend.current().value_and_input_grad(fn, x), has_aux)


def jvp(fn, x, v, has_aux=False):
    """A function's value and its derivative along the direction `v`, in forward mode.

    `fn` is a function of `x` to a tensor, or to `(tensor, aux)`. Returns `(value,
    tangent)`, or `((value, aux), tangent)`. Costs about two evaluations, whatever the
    shape of the value; XLA takes long to compile it under TensorFlow.
    """
    fn, x, v = _with_aux(fn, has_aux), _tensors(x), _tensors(v)
    return _result(backend.current().jvp(fn, x, v), has_aux)


def finite_difference(fn, x, v, has_aux=False, step=FINITE_DIFFERENCE_STEP):
    """As `jvp`, from the function's values alone, `(f(x + hv) − f(x − hv)) / 2h`.

    Three evaluations and no derivative of a derivative: it works with any layer. All of
    them draw the same random numbers, once. The error is of order `h²`, and `1e-7 / h`
    of rounding.
    """
    fn = backend.with_fixed_rng(_with_aux(fn, has_aux))
    x, v = _tensors(x), _tensors(v)

    def moved(h):
        return keras.tree.map_structure(lambda a, b: a + h * b, x, v)

    value, aux = fn(x)
    ahead, behind = fn(moved(step))[0], fn(moved(-step))[0]
    return _result(((value, aux), (ahead - behind) / (2 * step)), has_aux)


def _with_aux(fn, has_aux):
    return fn if has_aux else lambda x: (fn(x), ())


def _result(result, has_aux):
    (value, _), derivative = result
    return result if has_aux else (value, derivative)


def _tensors(x):
    return keras.tree.map_structure(ops.convert_to_tensor, x)
