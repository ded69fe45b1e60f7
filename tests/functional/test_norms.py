"""Lengths, and their gradients at 0."""

import numpy as np
import pytest
from keras import ops

from keras_dtkd.functional.norms import safe_sqrt, squared_norm
from tests.gradients import value_and_grad
from tests.logit_cases import assert_close

X = np.random.default_rng(0).normal(size=(4, 2, 3))


def length(x):
    return safe_sqrt(squared_norm(x))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
@pytest.mark.parametrize("compiled", [False, True])
def test_norm_of_each_sample_and_its_gradient_equal_the_formula(scale, compiled):
    values, gradient = value_and_grad(length, scale * X, compiled)
    expected = np.linalg.norm(scale * X.reshape(4, -1), axis=-1)
    assert_close(values, expected, 2e-6, expected)
    assert_close(gradient, scale * X / expected[:, None, None], 2e-3)


def test_norm_and_gradient_are_zero_at_zero():
    for found in value_and_grad(length, 0 * X):
        assert (found == 0).all()


def test_squared_norm_sums_over_nested_tensors():
    x = ops.convert_to_tensor(X.astype("float32"))
    found = squared_norm({"a": x, "b": [x[:, 0, 0]]})
    expected = (X**2).sum((1, 2)) + X[:, 0, 0] ** 2
    assert_close(ops.convert_to_numpy(found), expected)
