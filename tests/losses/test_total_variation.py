"""TotalVariation equals its formula, with any temperature."""

import numpy as np
import pytest

from keras_dtkd.losses import TotalVariation
from tests import oracles_pointwise
from tests.gradients import value_and_grad
from tests.logit_cases import (
    CASE,
    CASE_NAMES,
    CASES,
    STACKED,
    assert_equals_oracle,
    digits,
    draw,
    results,
)
from tests.tensors import tensor


def oracle(tau=1.0):
    return lambda student, teacher: (
        tau**2 * oracles_pointwise.total_variation(teacher / tau, student / tau)
    )


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("case", CASE_NAMES)
@pytest.mark.parametrize("tau", [1.0, 4.0])
def test_equals_the_formula(tau, case):
    assert_equals_oracle(
        TotalVariation(tau), oracle(tau), CASES[case], scale=digits(CASES[case])
    )


@pytest.mark.invariant(number=5)
def test_other_arguments_equal_the_formula():
    assert_equals_oracle(
        TotalVariation(2.0),
        oracle(2.0),
        CASE,
    )


def test_loss_at_temperature_1_is_between_0_and_1():
    value, _ = results(TotalVariation(), STACKED.student, STACKED.teacher)
    assert value.min() == 0 and value.max() == pytest.approx(1.0)


@pytest.mark.invariant(number=2)
@pytest.mark.parametrize("compiled", [False, True])
def test_loss_and_gradient_of_equal_models_are_zero(compiled):
    """Though a compiler may round the two models' probabilities differently."""
    loss = TotalVariation(4.0)
    for case in (STACKED, draw((64, 100), teacher=1.0)):
        teacher = tensor(case.teacher)
        found = value_and_grad(
            lambda z, teacher=teacher: loss(z, teacher), case.teacher, compiled
        )
        assert all(np.abs(f).max() < 1e-6 for f in found)
