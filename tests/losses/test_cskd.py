"""CSKD equals its formula, at any temperatures, and its rows count by their weights."""

import numpy as np
import pytest

from keras_dtkd.losses import CSKD
from keras_dtkd.temperatures import Constant, CosineSimilarity, Dynamic
from tests import oracles
from tests.gradients import value_and_grad
from tests.logit_cases import (
    CASE,
    CASE_NAMES,
    CASES,
    assert_batch_equals_oracle,
    values,
)
from tests.oracles_correlation import column_term, cskd
from tests.tensors import tensor


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("case", CASE_NAMES)
def test_equals_the_formula(case):
    assert_batch_equals_oracle(CSKD(), cskd, CASES[case])


def test_the_default_is_a_fixed_temperature_and_one_by_similarity():
    fixed, similar = CSKD().temperatures
    assert type(fixed) is Constant and fixed.temperature == 4.0
    assert type(similar) is CosineSimilarity
    assert (similar.min_temperature, similar.max_temperature) == (2.0, 6.0)
    assert CSKD().alpha == 2.0


def test_all_samples_have_the_batchs_value():
    assert values(CSKD()).shape == (8,)
    assert len(np.unique(values(CSKD()))) == 1


def test_gradient_of_one_sample_is_nearly_zero():
    loss = CSKD()

    def greatest(case):
        _, gradient = value_and_grad(
            lambda z: loss(z, tensor(case.teacher)), case.student, compiled=True
        )
        return np.abs(gradient).max()

    assert greatest(CASES["1 sample"]) < 0.01 * greatest(CASE)


def test_temperatures_may_be_of_any_class():
    loss = CSKD(1.5, [Dynamic(4.0, "std", True), 3.0])

    def oracle(student, teacher):
        t = oracles.temperatures(student, teacher, 4.0, "std", 0.1)
        return column_term(
            student, teacher, *map(oracles.constant, t), 1.5
        ) + column_term(student, teacher, 3.0, 3.0, 1.5)

    assert_batch_equals_oracle(loss, oracle, CASE)


def test_the_first_temperature_that_is_not_constant_is_logged():
    loss = CSKD(temperatures=(2.0, CosineSimilarity(), Dynamic(), 4.0))
    fixed, similar, dynamic, other = loss.temperatures
    assert loss.get_temperatures() == [similar, dynamic, fixed, other]
    values(loss)
    # Nobody would take them, and they would outlive the step.


def test_hyperparameters_of_temperatures_are_variables_of_the_loss():
    loss = CSKD()
    fixed, similar = loss.temperatures
    held = {v.path for v in loss.variables}
    assert {v.path for rule in (fixed, similar) for v in rule.variables} <= held
