"""A compiled function that reads variables and assigns none."""

import logging

import keras
import numpy as np
import pytest

from keras_dtkd import backend

X = np.array([[1.0, -2.0, 3.0]], "float32")


def test_it_reads_variables_as_they_are_now():
    scale = keras.Variable(2.0)
    f = backend.jit([scale], lambda x: scale * x)
    x = keras.ops.convert_to_tensor(X)
    assert np.allclose(keras.ops.convert_to_numpy(f(x)), 2 * X)
    scale.assign(5.0)
    assert np.allclose(keras.ops.convert_to_numpy(f(x)), 5 * X)


def test_it_assigns_none():
    count = keras.Variable(0.0)

    def f(x):
        count.assign(count + 1)
        return x + count

    found = backend.jit([count], f)(keras.ops.convert_to_tensor(X))
    assert np.allclose(keras.ops.convert_to_numpy(found), X + 1)
    assert keras.ops.convert_to_numpy(count.value) == 0


def test_a_gradient_may_stand_inside_and_arguments_may_be_missing():
    scale = keras.Variable(2.0)

    def f(x, y, offset):
        offset = 0.0 if offset is None else offset
        return backend.value_and_grad(
            lambda x: keras.ops.sum(scale * x**2 * y + offset), x
        )

    f = backend.jit([scale], f)
    x = keras.ops.convert_to_tensor(X)
    for offset, more in ((None, 0), (x, 2)):
        value, gradient = map(keras.ops.convert_to_numpy, f(x, 3 * x, offset))
        assert np.allclose(value, (6 * X**3).sum() + more)
        assert np.allclose(gradient, 12 * X**2)


def test_many_models_are_no_sign_of_tracing_too_often():
    if backend.backend_name() != "tensorflow":
        pytest.skip("the warning is TensorFlow's")
    import tensorflow as tf

    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    tf.get_logger().addHandler(handler)
    try:
        for _ in range(7):
            backend.jit([], lambda x: x + 1)(keras.ops.ones((2,)))
    finally:
        tf.get_logger().removeHandler(handler)
    assert not messages
