"""DIST equals its formula, and its rows count by their weights."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd.losses import DIST
from keras_dtkd.temperatures import Constant, Dynamic
from tests import batch_coupled, oracles
from tests.batch_coupled import assert_equals_oracle, tensor
from tests.gradients import value_and_grad
from tests.logit_cases import CASES, assert_close, draw
from tests.oracles_correlation import dist, pearson

CASE = draw((8, 100))


def values(loss, case=CASE):
    return np.asarray(ops.convert_to_numpy(loss(*map(tensor, case[:2]))), "float64")


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("case", CASES)
def test_equals_the_formula(case):
    case = CASES[case]
    assert_equals_oracle(
        DIST(), dist, case, scale=batch_coupled.last_digits(dist, case)
    )


@pytest.mark.invariant(number=5)
def test_compiled_equals_the_formula():
    loss = DIST(temperature=2.0, beta=0.5, gamma=3.0)
    assert_equals_oracle(
        loss,
        lambda student, teacher: dist(student, teacher, 2.0, 2.0, 0.5, 3.0),
        batch_coupled.STACKED,
        compiled=True,
    )


def test_without_t2_both_terms_are_plain_correlations():
    assert_close(16 * values(DIST(scale_by_t2=False)), values(DIST()), 1e-5)


def test_correlations_equal_numpys_pearson():
    q, p = (oracles.softmax(z / 4.0) for z in CASE[:2])
    rows = np.array([np.corrcoef(q[i], p[i])[0, 1] for i in range(8)])
    columns = [np.corrcoef(q[:, c], p[:, c])[0, 1] for c in range(100)]
    # The authors' epsilon makes the difference.
    only = DIST(gamma=0.0, scale_by_t2=False)
    assert_close(values(only), 1 - rows, 1e-5)
    only = DIST(beta=0.0, scale_by_t2=False)
    assert_close(values(only), 1 - np.mean(columns), 1e-3)


@pytest.mark.invariant(number=2)
def test_loss_of_equal_models_is_what_the_authors_epsilon_leaves():
    value, gradient = value_and_grad(
        lambda z: DIST()(z, tensor(CASE.teacher)), CASE.teacher
    )
    assert_close(value, dist(CASE.teacher, CASE.teacher), 1e-5)
    assert 0 < value.max() < 5e-3
    # Of the sum over samples; a student apart from its teacher has one of size 1.
    assert np.abs(gradient).max() < 2e-4


@pytest.mark.invariant(number=2)
def test_loss_is_invariant_to_a_shift_of_all_logits():
    before = value_and_grad(lambda z: DIST()(z, tensor(CASE.teacher)), CASE.student)
    after = value_and_grad(
        lambda z: DIST()(z, tensor(CASE.teacher - 64.0)), CASE.student + 16.0
    )
    for one, other in zip(before, after, strict=True):
        assert_close(one, other, 5e-5)


def test_loss_is_invariant_to_the_scale_of_probabilities():
    """A teacher's relations, not its numbers: a flatter student has no loss."""
    p = oracles.softmax(CASE.teacher / 4.0)
    flatter = 4.0 * np.log(0.5 * p + 0.5 / 100)
    # One less that, times T², is the authors' epsilon beside smaller norms.
    expected = 16 * (1 - pearson(oracles.softmax(flatter / 4.0), p, 1))
    assert expected.max() < 1e-4
    assert_close(values(DIST(gamma=0.0), (flatter, CASE.teacher)), expected)


def test_one_sample_has_a_constant_intra_class_term_without_gradient():
    case, loss = CASES["1 sample"], DIST(beta=0.0)
    value, gradient = value_and_grad(
        lambda z: loss(z, tensor(case.teacher)), case.student, compiled=True
    )
    assert value == pytest.approx(16.0) and (gradient == 0).all()


@pytest.mark.invariant(number=6)
def test_gradient_is_finite_for_equal_student_logits():
    _, gradient = value_and_grad(
        lambda z: DIST()(z, tensor(CASE.teacher)), np.full((8, 100), 0.3)
    )
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


@pytest.mark.invariant(number=3)
def test_a_sample_of_weight_two_equals_that_sample_twice():
    batch_coupled.assert_weights_count(
        DIST(beta=0.0), lambda student, teacher: dist(student, teacher, beta=0.0)
    )


@pytest.mark.invariant(number=3)
def test_weights_do_not_change_the_inter_class_term():
    loss, weights = DIST(gamma=0.0), tensor(batch_coupled.WEIGHTS)
    weighted = loss(*map(tensor, CASE[:2]), sample_weight=weights)
    assert np.array_equal(ops.convert_to_numpy(weighted), values(loss))


@pytest.mark.invariant(number=3)
def test_all_zero_weights_leave_all_finite():
    batch_coupled.assert_weights_of_zero_leave_all_finite(DIST())


@pytest.mark.invariant(number=3)
def test_masked_positions_are_ignored():
    batch_coupled.assert_masks_count(
        DIST(beta=0.0), lambda student, teacher: dist(student, teacher, beta=0.0)
    )


@pytest.mark.parametrize("mask", [-1e9, -np.inf])
def test_masked_classes_are_ignored(mask):
    batch_coupled.assert_masked_classes_count_nowhere(DIST(), dist, mask)


def test_each_sample_has_its_temperatures_and_each_class_their_mean():
    loss = DIST(temperature=Dynamic(4.0, "std", True))

    def oracle(student, teacher):
        t = oracles.temperatures(student, teacher, 4.0, "std", 0.1)
        return dist(student, teacher, *map(oracles.constant, t))

    assert_equals_oracle(loss, oracle, CASE)


def test_factors_and_temperature_can_be_changed():
    loss = DIST()
    loss.beta, loss.gamma, loss.temperature = 0.5, 2.0, 3.0
    assert_close(values(loss), dist(*CASE[:2], 3.0, 3.0, 0.5, 2.0), 1e-5, 20.0)


@pytest.mark.parametrize(
    "invalid, received",
    [
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"beta": -1.0}, "beta=-1.0"),
        ({"gamma": float("nan")}, "gamma=nan"),
        ({"weight": -1.0}, "weight=-1.0"),
    ],
)
def test_invalid_arguments_raise_with_the_received_value(invalid, received):
    with pytest.raises(ValueError) as error:
        DIST(**invalid)
    assert received in str(error.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"temperature": 1.0, "beta": 2.0, "gamma": 0.5, "scale_by_t2": False},
        {"temperature": Constant(2.0), "weight": 2.0, "name": "relations"},
        {"temperature": Dynamic(3.0), "warmup_epochs": "auto"},
    ],
)
def test_serializes(arguments):
    loss = DIST(**arguments)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(loss)))
    restored = keras.saving.deserialize_keras_object(config)
    assert type(restored) is DIST
    assert restored.get_config() == loss.get_config()
    assert np.array_equal(values(restored), values(loss))
