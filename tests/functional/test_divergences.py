"""Divergences equal their formulas, and impossible classes cost nothing."""

import numpy as np
import pytest
from keras import ops

from keras_dtkd.functional import divergences
from tests import oracles
from tests.gradients import value_and_grad
from tests.logit_cases import (
    CASES,
    FLOAT32_NAMES,
    STACKED,
    assert_close,
    assert_equals_oracle,
    digits,
    draw,
)

NAMES = ("kl", "reverse_kl", "jsd")
# These functions compute in the dtype they get.


def of_logits(name):
    def function(student, teacher):
        return divergences.get(name)(ops.log_softmax(teacher), ops.log_softmax(student))

    return function


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("case", FLOAT32_NAMES)
@pytest.mark.parametrize("name", NAMES)
def test_equals_the_formula(name, case):
    # Without a temperature, the gradient of `reverse_kl` is a difference of logits.
    assert_equals_oracle(
        of_logits(name),
        lambda student, teacher: oracles.DIVERGENCES[name](teacher, student),
        CASES[case],
        scale=digits(CASES[case]),
    )


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize("spread", [0.1, 1.0])
@pytest.mark.parametrize("name", ("kl", "reverse_kl"))
def test_a_high_temperature_times_its_square_equals_the_formula(name, spread, classes):
    """As a curriculum begins, where both distributions are nearly uniform."""
    case = draw((64, classes), spread, spread)
    t = 15.6

    def softened(z):
        return ops.log_softmax(ops.convert_to_tensor(z, "float32") / t)

    value = ops.convert_to_numpy(
        t**2 * divergences.get(name)(softened(case.teacher), softened(case.student))
    )
    expected = t**2 * oracles.DIVERGENCES[name](case.teacher / t, case.student / t)
    assert (value >= 0).all()
    assert_close(value, expected, 1e-5)


@pytest.mark.invariant(number=2)
@pytest.mark.parametrize("name", NAMES)
def test_of_equal_distributions_value_and_gradient_are_zero(name):
    teacher = ops.convert_to_tensor(STACKED.teacher, "float32")
    value, gradient = value_and_grad(
        lambda student: of_logits(name)(student, teacher), STACKED.teacher
    )
    assert np.abs(value).max() < 1e-6
    assert np.abs(gradient).max() < 1e-6


@pytest.mark.parametrize("excluded", [-np.inf, -200.0])
@pytest.mark.parametrize("student", [np.log(2), -np.inf])
def test_kl_ignores_classes_of_zero_teacher_probability(excluded, student):
    """Excluded by the teacher, or too improbable for float32."""
    log_p = ops.convert_to_tensor([[np.log(0.5), np.log(0.5), excluded]], "float32")
    value, gradient = value_and_grad(
        lambda z: divergences.kl(log_p, ops.log_softmax(z)), [[0.0, 0.0, student]]
    )
    q = np.exp([0.0, 0.0, student]) / np.exp([0.0, 0.0, student]).sum()
    assert_close(value, [-np.log(2 * q[0])], 1e-6)
    assert_close(gradient, [q - [0.5, 0.5, 0.0]], 1e-6)


def test_kl_is_infinite_where_only_the_student_excludes_a_class():
    log_p, log_q = np.log([[0.5, 0.5]]), np.array([[0.0, -np.inf]])
    value = divergences.kl(
        *(ops.convert_to_tensor(z, "float32") for z in (log_p, log_q))
    )
    assert ops.convert_to_numpy(value) == [np.inf]


def test_reverse_kl_is_kl_with_the_models_exchanged():
    p, q = (ops.log_softmax(ops.convert_to_tensor(z, "float32")) for z in STACKED[:2])
    assert np.array_equal(
        ops.convert_to_numpy(divergences.reverse_kl(p, q)),
        ops.convert_to_numpy(divergences.kl(q, p)),
    )


@pytest.mark.parametrize(
    "function, greatest",
    [(divergences.jsd, np.log(2)), (divergences.total_variation, 1)],
)
def test_jsd_and_total_variation_are_symmetric_and_bounded(function, greatest):
    p, q = (ops.log_softmax(ops.convert_to_tensor(z, "float32")) for z in STACKED[:2])
    value, exchanged = (
        ops.convert_to_numpy(function(*pair)) for pair in ((p, q), (q, p))
    )
    assert_close(value, exchanged, 1e-6)
    assert value.min() > -1e-6
    # Distributions without a common class reach it.
    assert abs(value.max() - greatest) < 1e-6


@pytest.mark.parametrize(
    "function",
    [
        *map(divergences.get, NAMES),
        *(divergences.generalized_jsd, divergences.total_variation),
    ],
)
def test_any_axis_may_hold_the_classes(function):
    p, q = (
        ops.log_softmax(ops.convert_to_tensor(z, "float32")) for z in draw((8, 100))[:2]
    )
    across = function(ops.transpose(p), ops.transpose(q), axis=0)
    assert_close(ops.convert_to_numpy(across), ops.convert_to_numpy(function(p, q)))


def test_an_unknown_name_raises_with_the_known_names():
    with pytest.raises(ValueError, match="'kl', 'reverse_kl', 'jsd'.*'hellinger'"):
        divergences.get("hellinger")


@pytest.mark.invariant(number=5)
def test_generalized_jsd_has_its_gradient_where_single_classes_are_tied():
    """Where `β p = (1 − β) q` in one class, both terms of the mixture move it."""
    log_p, log_q = np.log([[0.5, 0.25, 0.25]]), np.log([[0.5, 0.4, 0.1]])
    _, gradient = value_and_grad(
        lambda z: divergences.generalized_jsd(
            ops.convert_to_tensor(log_p, "float32"), z, 0.5
        ),
        log_q,
    )
    p, q = np.exp(log_p), np.exp(log_q)
    # Of `½ Σ p log(p/m) + ½ Σ q log(q/m)` with respect to `log q`.
    assert_close(gradient, q * np.log(2 * q / (p + q)) / 2, 1e-6)


@pytest.mark.parametrize(
    "invalid, received",
    [
        ({"beta": -0.1}, "beta=-0.1"),
        ({"beta": 1.5}, "beta=1.5"),
        ({"convention": "trl"}, "convention='trl'"),
    ],
)
def test_generalized_jsd_raises_for_invalid_arguments(invalid, received):
    p = ops.log_softmax(ops.convert_to_tensor(STACKED.teacher, "float32"))
    with pytest.raises(ValueError) as error:
        divergences.generalized_jsd(p, p, **invalid)
    assert received in str(error.value)
