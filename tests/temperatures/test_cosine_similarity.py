"""CSWT equals its formula, and is defined where the formula is 0/0."""

import numpy as np
import pytest
from keras import ops

from keras_dtkd import Step
from keras_dtkd.losses import DTKD, KD
from keras_dtkd.temperatures import CosineSimilarity
from tests import oracles_temperatures as oracles
from tests.logit_cases import (
    CASE,
    CASE_NAMES,
    CASES,
    assert_close,
    assert_equals_oracle,
)
from tests.tensors import tensors


def temperatures(student, teacher, sample_weight=None, rule=None):
    """T_i, `(...)`; that all three agree on it."""
    rule = rule or CosineSimilarity()
    if sample_weight is not None:
        sample_weight = ops.convert_to_tensor(sample_weight, "float32")
    given = rule(*tensors(student, teacher), sample_weight=sample_weight)
    t_student, t_teacher, weight = (ops.convert_to_numpy(t) for t in given)
    assert np.array_equal(t_student, t_teacher)
    assert_close(weight, t_student[..., 0] ** 2, 1e-6, weight)
    return t_student[..., 0]


def theirs(student, teacher):
    t = oracles.cosine_similarity(student, teacher)
    return oracles.together(t[..., None], t[..., None], t**2)


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("case", CASE_NAMES)
def test_equals_the_formula_and_is_a_constant(case):
    rule = CosineSimilarity()
    assert_equals_oracle(
        lambda student, teacher: oracles.together(*rule(student, teacher)),
        theirs,
        CASES[case],
    )


def loss_oracle(student, teacher):
    t = oracles.cosine_similarity(student, teacher)
    return oracles.kd_at(t[..., None], student, teacher)


@pytest.mark.invariant(number=5)
def test_a_loss_equals_the_formula():
    assert_equals_oracle(
        KD(CosineSimilarity()),
        # The temperatures are those of the batch, whichever row is differentiated.
        loss_oracle,
        CASE,
    )


def test_the_most_similar_sample_gets_the_minimum_and_the_least_the_maximum():
    t = temperatures(CASE.student[:2], CASE.teacher[:2])
    assert sorted(t.tolist()) == [2.0, 6.0]


@pytest.mark.invariant(number=6)
def test_one_sample_gets_the_minimum():
    assert temperatures(CASE.student[:1], CASE.teacher[:1]).tolist() == [2.0]


@pytest.mark.invariant(number=6)
def test_equal_similarities_get_the_minimum():
    assert (temperatures(CASE.teacher, CASE.teacher) == 2.0).all()
    repeated = [np.repeat(z[:1], 8, 0) for z in CASE[:2]]
    assert_close(temperatures(*repeated), 2.0, 0.1)


def test_similarities_that_differ_by_rounding_alone_count_as_equal():
    rng = np.random.default_rng(0)
    student, teacher = (np.repeat(z[:1], 64, 0) for z in CASE[:2])
    shifted = student + rng.normal(scale=4.0, size=(64, 1))
    assert_close(temperatures(shifted, teacher), 2.0, 0.5)
    # Of models that agree.
    shifted = teacher + rng.normal(scale=4.0, size=(64, 1))
    assert_close(temperatures(shifted, teacher), 2.0, 0.1)


@pytest.mark.invariant(number=3)
def test_a_loss_passes_it_weights_and_positions():
    case = CASES["sequences"]
    weight = np.array([[1.0, 1.0, 0.0, 1.0], [1.0, 0.0, 1.0, 1.0]])
    student, teacher = tensors(*case[:2])
    step = Step(
        student_logits=student,
        teacher_logits=teacher,
        sample_weight=ops.convert_to_tensor(weight, "float32"),
    )
    counts = weight > 0
    t = oracles.cosine_similarity(*case[:2], counts=counts)
    expected = oracles.kd_at(t[..., None], *case[:2])
    for loss in (KD(CosineSimilarity()), DTKD(CosineSimilarity(), alpha=0.0)):
        values = ops.convert_to_numpy(loss.compute(step))
        assert np.isfinite(values).all()
        assert_close(values[counts], expected[counts], 1e-5, expected[counts])


def test_bounds_may_be_changed():
    rule = CosineSimilarity()
    rule.max_temperature = 9.0
    rule.min_temperature = 7.0
    t = temperatures(*CASE[:2], rule=rule)
    assert_close(t, oracles.cosine_similarity(*CASE[:2], 7.0, 9.0), 1e-5, t)


def test_bounds_out_of_order_are_refused_later_too():
    rule = CosineSimilarity()
    with pytest.raises(ValueError, match="min_temperature=6.5, max_temperature=6.0"):
        rule.min_temperature = 6.5
    with pytest.raises(ValueError, match="min_temperature=2.0, max_temperature=1.0"):
        rule.max_temperature = 1.0
    assert (rule.min_temperature, rule.max_temperature) == (2.0, 6.0)


def test_equal_bounds_are_a_constant_temperature():
    rule = CosineSimilarity(3.0, 3.0)
    assert (temperatures(*CASE[:2], rule=rule) == 3.0).all()
