"""R2KD equals its formulas, in value and in rank, and its ranks have a gradient."""

import numpy as np
import pytest

from keras_dtkd.losses import R2KD
from keras_dtkd.temperatures import Dynamic
from tests import oracles
from tests import oracles_correlation as references
from tests.gradients import value_and_grad
from tests.logit_cases import (
    CASE,
    CASE_NAMES,
    CASES,
    assert_close,
    assert_equals_oracle,
    values,
)
from tests.oracles_correlation import rank_term, value_term
from tests.tensors import tensor


def r2kd(student, teacher):
    return value_term(student, teacher) + rank_term(student, teacher)


def gradient_of(teacher):
    """Of `r2kd`: ranks are each sample's own, and cost too much by all entries."""

    def gradient(_, student):
        value = references.gradient(lambda z: value_term(z, teacher), student)
        return value + oracles.gradient(lambda z: rank_term(z, teacher), student)

    return gradient


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("case", CASE_NAMES)
def test_equals_the_formula(case):
    case = CASES[case]
    assert_equals_oracle(R2KD(), r2kd, case, gradient=gradient_of(case.teacher))


def test_each_factor_multiplies_its_term():
    value, rank = R2KD(rank_weight=0.0), R2KD(value_weight=0.0, rank_weight=0.5)
    assert_close(values(value), value_term(*CASE[:2]), 1e-5, 10.0)
    assert_close(values(rank), rank_term(*CASE[:2], factor=0.5))


def test_rank_temperature_none_omits_the_rank_term():
    assert_close(values(R2KD(rank_temperature=None)), value_term(*CASE[:2]), 1e-5, 10.0)


def test_the_rank_term_has_a_gradient_and_that_of_the_authors_has_none():
    loss = R2KD(value_weight=0.0)
    _, gradient = value_and_grad(lambda z: loss(z, tensor(CASE.teacher)), CASE.student)
    assert (np.abs(gradient).max(-1) > 1e-3).all()
    # Towards true ranks, every comparison of distinct logits is decided.
    loss = R2KD(value_weight=0.0, rank_temperature=1e-6)
    _, gradient = value_and_grad(lambda z: loss(z, tensor(CASE.teacher)), CASE.student)
    assert (gradient == 0).mean() > 0.95


def test_one_step_along_the_rank_gradient_brings_the_true_ranks_closer():
    def true_correlation(student):
        ranks = [z.argsort(-1).argsort(-1) for z in (student, CASE.teacher)]
        return [np.corrcoef(*pair)[0, 1] for pair in zip(*ranks, strict=True)]

    loss = R2KD(value_weight=0.0)
    _, gradient = value_and_grad(lambda z: loss(z, tensor(CASE.teacher)), CASE.student)
    size = np.abs(gradient).max(-1, keepdims=True)
    stepped = CASE.student - gradient / size
    assert (np.array(true_correlation(stepped)) > true_correlation(CASE.student)).all()


def test_each_sample_has_its_own_temperatures():
    loss = R2KD(temperature=Dynamic(4.0, "std", True), rank_temperature=0.5)

    def temperatures(student, teacher):
        t = oracles.temperatures(student, teacher, 4.0, "std", 0.1)
        return [oracles.constant(z) for z in t]

    student, teacher = CASE[:2]
    t_student, t_teacher = temperatures(student, teacher)
    expected = value_term(student, teacher, t_student, t_teacher)
    expected += rank_term(
        student / t_student, teacher / t_teacher, 1.0, rank_temperature=0.5
    )
    assert_close(values(loss), expected, 1e-5, expected)


def test_default_name_is_r2kd():
    assert R2KD().name == "r2kd" and R2KD(name="robust").name == "robust"
