"""A weight that the optimizer moves up the loss, at a pace of its own."""

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


def made(pace=1.0, **kwargs):
    weight = GradientReversedWeight((3,), "zeros", pace, **kwargs)
    weight.base.assign(START)
    return weight


def climb(weight, optimizer, steps=1):
    """Steps on a loss whose gradient with respect to the weight is `SLOPE`."""
    for _ in range(steps):
        gradient = ops.convert_to_tensor(-SLOPE, "float32")
        optimizer.apply([gradient], [weight.theta])


def test_its_value_is_base_and_pace_times_theta():
    weight = made(0.25)
    weight.theta.assign([1000.0, 2.0, -4.0])
    expected = START + 0.25 * np.array([1000.0, 2.0, -4.0])
    assert_close(weight.numpy(), expected, 1e-6, expected)
    assert np.array_equal(ops.convert_to_numpy(weight.reversed()), weight.numpy())


@pytest.mark.parametrize("pace", [0.0, 0.25, 1.0])
def test_its_gradient_is_that_of_the_weight_times_minus_one(pace):
    base, slope = (ops.convert_to_tensor(z, "float32") for z in (START, SLOPE))
    value, gradient = value_and_grad(
        lambda theta: slope * reverse_gradient(base, pace, theta), np.full(3, 4.0)
    )
    assert_close(value, SLOPE * (START + 4.0 * pace), 1e-6)
    assert_close(gradient, -SLOPE, 1e-6)


def test_under_sgd_it_moves_up_by_pace_times_rate_times_gradient():
    weight = made(0.25)
    climb(weight, keras.optimizers.SGD(0.1))
    assert_close(weight.numpy(), START + 0.25 * 0.1 * SLOPE, 1e-6)


def test_under_adam_it_moves_up_by_pace_times_rate():
    weight = made(0.25)
    climb(weight, keras.optimizers.Adam(0.1))
    assert_close(weight.numpy(), START + 0.25 * 0.1 * np.sign(SLOPE), 1e-5)


@pytest.mark.parametrize("decays", [False, True])
def test_a_new_pace_leaves_it_where_it_is(decays):
    weight, optimizer = made(0.25, decays=decays), keras.optimizers.SGD(0.1)
    climb(weight, optimizer, steps=3)
    for pace in (1.0, 0.5, 0.0, 1.0, 1.0):
        before = weight.numpy()
        weight.set_pace(pace)
        assert_close(weight.numpy(), before, 1e-6)
        climb(weight, optimizer)
        assert_close(weight.numpy(), before + pace * 0.1 * SLOPE, 1e-6)


def test_a_new_pace_leaves_what_the_optimizer_trains():
    weight = made(0.25)
    climb(weight, keras.optimizers.SGD(0.1), steps=3)
    before = np.array(ops.convert_to_numpy(weight.theta))
    weight.set_pace(1.0)
    assert np.array_equal(ops.convert_to_numpy(weight.theta), before)


def test_weight_decay_pulls_it_to_its_start_at_any_pace():
    weight = made(0.25, decays=True)
    climb(weight, keras.optimizers.SGD(0.1), steps=3)
    weight.set_pace(1.0)
    weight.theta.assign(0.0 * weight.theta)
    assert_close(weight.numpy(), START, 1e-6)


def test_one_theta_is_trained_and_all_three_are_saved():
    weight = made()
    assert [v.name for v in weight.trainable_variables] == ["theta"]
    assert len(weight.weights) == 3
    assert {v.dtype for v in weight.weights} == {"float32"}
