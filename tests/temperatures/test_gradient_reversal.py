"""A weight with which the optimizer ascends the loss, with its own step scale."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd.temperatures.gradient_reversal import (
    GradientReversedWeight,
    reverse_gradient,
)
from tests.gradients import value_and_grad
from tests.logit_cases import assert_close

START = np.array([1.0, -2.0, 3.0])
SLOPE = np.array([0.5, -1.0, 2.0])


def reversed_weight(step_scale=1.0, **kwargs):
    weight = GradientReversedWeight((3,), "zeros", step_scale, **kwargs)
    weight.offset.assign(START)
    return weight


def ascend(weight, optimizer, steps=1):
    """Steps on a loss whose gradient with respect to the weight is `SLOPE`."""
    for _ in range(steps):
        gradient = ops.convert_to_tensor(-SLOPE, "float32")
        optimizer.apply([gradient], [weight.ascent_variable])


def test_value_is_offset_plus_step_scale_times_theta():
    weight = reversed_weight(0.25)
    weight.ascent_variable.assign([1000.0, 2.0, -4.0])
    expected = START + 0.25 * np.array([1000.0, 2.0, -4.0])
    assert_close(weight.numpy(), expected, 1e-6, expected)
    assert np.array_equal(ops.convert_to_numpy(weight.value()), weight.numpy())


@pytest.mark.parametrize("step_scale", [0.0, 0.25, 1.0])
def test_gradient_is_that_of_the_weight_times_minus_one(step_scale):
    offset, slope = (ops.convert_to_tensor(z, "float32") for z in (START, SLOPE))
    value, gradient = value_and_grad(
        lambda theta: slope * reverse_gradient(offset, step_scale, theta),
        np.full(3, 4.0),
    )
    assert_close(value, SLOPE * (START + 4.0 * step_scale), 1e-6)
    assert_close(gradient, -SLOPE, 1e-6)


def test_sgd_ascends_by_step_scale_times_rate_times_gradient():
    weight = reversed_weight(0.25)
    ascend(weight, keras.optimizers.SGD(0.1))
    assert_close(weight.numpy(), START + 0.25 * 0.1 * SLOPE, 1e-6)


def test_adam_ascends_by_step_scale_times_rate():
    weight = reversed_weight(0.25)
    ascend(weight, keras.optimizers.Adam(0.1))
    assert_close(weight.numpy(), START + 0.25 * 0.1 * np.sign(SLOPE), 1e-5)


@pytest.mark.parametrize("weight_decay_to_offset", [False, True])
def test_a_new_step_scale_does_not_change_the_value(weight_decay_to_offset):
    weight, optimizer = (
        reversed_weight(0.25, weight_decay_to_offset=weight_decay_to_offset),
        keras.optimizers.SGD(0.1),
    )
    ascend(weight, optimizer, steps=3)
    for step_scale in (1.0, 0.5, 0.0, 1.0, 1.0):
        before = weight.numpy()
        weight.set_step_scale(step_scale)
        assert_close(weight.numpy(), before, 1e-6)
        ascend(weight, optimizer)
        assert_close(weight.numpy(), before + step_scale * 0.1 * SLOPE, 1e-6)


def test_a_new_step_scale_does_not_change_the_trained_variable():
    weight = reversed_weight(0.25)
    ascend(weight, keras.optimizers.SGD(0.1), steps=3)
    before = np.array(ops.convert_to_numpy(weight.ascent_variable))
    weight.set_step_scale(1.0)
    assert np.array_equal(ops.convert_to_numpy(weight.ascent_variable), before)


def test_weight_decay_pulls_to_the_initial_value_at_any_step_scale():
    weight = reversed_weight(0.25, weight_decay_to_offset=True)
    ascend(weight, keras.optimizers.SGD(0.1), steps=3)
    weight.set_step_scale(1.0)
    weight.ascent_variable.assign(0.0 * weight.ascent_variable)
    assert_close(weight.numpy(), START, 1e-6)


def test_one_variable_is_trained_and_all_three_are_saved():
    weight = reversed_weight()
    assert [v.name for v in weight.trainable_variables] == ["ascent_variable"]
    assert len(weight.weights) == 3
    assert {v.dtype for v in weight.weights} == {"float32"}
