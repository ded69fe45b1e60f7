"""KD equals Hinton's formula, with any divergence and any temperature."""

import numpy as np
import pytest

from keras_dtkd.losses import KD
from tests import oracles
from tests.gradients import value_and_grad
from tests.logit_cases import (
    CASE,
    CASE_NAMES,
    CASES,
    assert_close,
    assert_equals_oracle,
)
from tests.tensors import tensor

NAMES = ("kl", "reverse_kl", "jsd")


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("case", CASE_NAMES)
@pytest.mark.parametrize("name", NAMES)
def test_equals_the_formula(name, case):
    assert_equals_oracle(
        KD(divergence=name),
        lambda student, teacher: oracles.kd(student, teacher, divergence=name),
        CASES[case],
    )


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("name", NAMES)
def test_other_arguments_equal_the_formula(name):
    assert_equals_oracle(
        KD(temperature=2.0, divergence=name),
        lambda student, teacher: oracles.kd(student, teacher, 2.0, divergence=name),
        CASE,
    )


def test_weight_is_the_square_of_the_temperature():
    # At high temperatures the gradient is (v - u) / classes, whatever T.
    limit = oracles.centered(CASE.student) - oracles.centered(CASE.teacher)
    for temperature in (1e3, 2e3):
        loss = KD(temperature)
        _, gradient = value_and_grad(
            lambda z, loss=loss: loss(z, tensor(CASE.teacher)), CASE.student
        )
        assert_close(100 * gradient, limit, 0.02, np.abs(limit).max())
