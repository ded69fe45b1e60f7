"""A function's value and gradient, on whichever backend Keras runs."""

import numpy as np
import pytest
from keras import ops

from keras_dtkd import backend

X = np.array([[1.0, -2.0, 3.0]], "float32")


def both(function):
    found = backend.value_and_grad(function, ops.convert_to_tensor(X))
    return tuple(map(ops.convert_to_numpy, found))


def test_they_are_what_they_are_called():
    value, gradient = both(lambda x: ops.sum(x**2))
    assert np.allclose(value, 14.0)
    assert np.allclose(gradient, 2 * X)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: ops.convert_to_tensor(3.0),
        lambda x: ops.sum(ops.stop_gradient(x)),
        lambda x: ops.sum(ops.cast(ops.argsort(x), "float32")),
    ],
)
def test_the_gradient_is_zero_where_the_function_does_not_depend_on_its_argument(
    function,
):
    assert np.array_equal(both(function)[1], np.zeros_like(X))


def test_they_are_there_where_nothing_is_recorded():
    with backend.no_grad():
        assert np.allclose(both(lambda x: ops.sum(3 * x))[1], 3.0)
