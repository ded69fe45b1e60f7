"""CSWT equals its formula, and is defined where the formula is 0/0."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import Step
from keras_dtkd.losses import DTKD, KD
from keras_dtkd.temperatures import CosineSimilarity
from tests import oracles_temperatures as oracles
from tests.logit_cases import (
    CASES,
    STACKED,
    assert_close,
    assert_equals_oracle,
    digits,
    draw,
)

CASE = draw((8, 100))


def tensors(*arrays):
    return [ops.convert_to_tensor(a, "float32") for a in arrays]


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
@pytest.mark.parametrize("case", CASES)
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
def test_compiled_in_a_loss_equals_the_formula():
    assert_equals_oracle(
        KD(CosineSimilarity()),
        # The temperatures are those of the batch, whichever row is differentiated.
        loss_oracle,
        STACKED,
        compiled=True,
        scale=digits(STACKED),
    )


def test_works_as_the_tau_of_dtkd():
    values = DTKD(CosineSimilarity(), alpha=0.0)(*tensors(*CASE[:2]))
    expected = loss_oracle(*CASE[:2])
    assert_close(ops.convert_to_numpy(values), expected, 1e-5, expected)


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


def test_similarities_that_only_rounding_tells_apart_count_as_equal():
    rng = np.random.default_rng(0)
    student, teacher = (np.repeat(z[:1], 64, 0) for z in CASE[:2])
    shifted = student + rng.normal(scale=4.0, size=(64, 1))
    assert_close(temperatures(shifted, teacher), 2.0, 0.5)
    # Of models that agree.
    shifted = teacher + rng.normal(scale=4.0, size=(64, 1))
    assert_close(temperatures(shifted, teacher), 2.0, 0.1)


@pytest.mark.invariant(number=2)
def test_loss_is_invariant_to_a_shift_of_all_logits():
    before = temperatures(*CASE[:2])
    after = temperatures(CASE.student + 16.0, CASE.teacher - 16.0)
    assert_close(after, before, 2e-5)


@pytest.mark.parametrize("mask", [-1e9, -np.inf])
def test_masked_classes_are_ignored(mask):
    kept = ~np.isin(np.arange(100), (3, 4))
    masked = [np.where(kept, z, mask) for z in CASE[:2]]
    expected = oracles.cosine_similarity(*(z[:, kept] for z in CASE[:2]))
    assert_close(temperatures(*masked), expected)


@pytest.mark.invariant(number=3)
def test_rows_of_weight_zero_count_nowhere_and_are_finite():
    student, teacher = CASE.student.copy(), CASE.teacher.copy()
    # Both extremes are padding.
    student[6], student[7] = teacher[6], -teacher[7]
    weight = np.array([1, 1, 2, 1, 1, 0.5, 0, 0])
    t = temperatures(student, teacher, weight)
    expected = oracles.cosine_similarity(student[:6], teacher[:6])
    assert_close(t[:6], expected)
    assert t[6:].tolist() == [2.0, 6.0]


@pytest.mark.invariant(number=3)
def test_all_weights_zero_are_finite():
    t = temperatures(*CASE[:2], np.zeros(8))
    assert (2.0 <= t).all() and (t <= 6.0).all()


@pytest.mark.invariant(number=3)
def test_a_loss_tells_it_of_weights_and_positions():
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


@pytest.mark.parametrize(
    "invalid, received",
    [
        ({"min_temperature": 0.0}, "min_temperature=0.0"),
        ({"min_temperature": -1.0}, "min_temperature=-1.0"),
        ({"max_temperature": float("nan")}, "max_temperature=nan"),
        ({"max_temperature": "warm"}, "max_temperature='warm'"),
        ({"min_temperature": 7.0}, "min_temperature=7.0, max_temperature=6.0"),
    ],
)
def test_invalid_arguments_raise_with_the_received_value(invalid, received):
    with pytest.raises(ValueError) as error:
        CosineSimilarity(**invalid)
    assert received in str(error.value)


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


def test_serializes():
    rule = CosineSimilarity(1.5, 5.0, name="similar")
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(rule)))
    restored = keras.saving.deserialize_keras_object(config)
    assert type(restored) is CosineSimilarity
    assert restored.get_config() == rule.get_config()
    assert np.array_equal(
        temperatures(*CASE[:2], rule=restored), temperatures(*CASE[:2], rule=rule)
    )
