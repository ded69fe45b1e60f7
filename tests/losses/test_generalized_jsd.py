"""GeneralizedJSD equals its formula in both conventions, and has their ends."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd.losses import KD, GeneralizedJSD
from keras_dtkd.temperatures import Constant, Dynamic
from tests import oracles, oracles_pointwise
from tests.gradients import value_and_grad
from tests.logit_cases import (
    CASES,
    STACKED,
    assert_close,
    assert_equals_oracle,
    digits,
    draw,
)

CONVENTIONS = ("gkd", "continuous")
FORMS = [(c, beta) for c in CONVENTIONS for beta in (0.1, 0.5, 0.9)]
ENDS = [(c, beta) for c in CONVENTIONS for beta in (0.0, 1.0)]
CASE = draw((8, 100))


def tensor(z):
    return ops.convert_to_tensor(z, "float32")


def results(loss, student=CASE.student, teacher=CASE.teacher):
    return value_and_grad(lambda z: loss(z, tensor(teacher)), student)


def oracle(beta, convention, tau=1.0):
    return lambda student, teacher: (
        tau**2
        * oracles_pointwise.generalized_jsd(
            teacher / tau, student / tau, beta, convention
        )
    )


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("convention, beta", FORMS + ENDS)
def test_equals_the_formula(convention, beta, case):
    assert_equals_oracle(
        GeneralizedJSD(beta, convention=convention),
        oracle(beta, convention),
        CASES[case],
        scale=digits(CASES[case]),
    )


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("convention, beta", [("gkd", 0.1), ("continuous", 0.9)])
def test_compiled_equals_the_formula(convention, beta):
    assert_equals_oracle(
        GeneralizedJSD(beta, temperature=2.0, convention=convention),
        oracle(beta, convention, 2.0),
        STACKED,
        compiled=True,
        scale=digits(STACKED),
    )


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_ends_are_the_two_kls_and_the_middle_is_jsd(convention):
    for beta, name in ((0, "kl"), (0.5, "jsd"), (1, "reverse_kl")):
        loss = GeneralizedJSD(beta, convention=convention)
        expected = results(KD(1.0, divergence=name))
        for found, other in zip(results(loss), expected, strict=True):
            assert_close(found, other, 1e-6, np.abs(other).max())


@pytest.mark.parametrize("end, near", [(0.0, 0.001), (1.0, 0.999)])
def test_continuous_convention_is_continuous_at_its_ends_and_gkd_jumps(end, near):
    at, close, gkd = (
        results(GeneralizedJSD(beta, 4.0, convention))[0]
        for beta, convention in (
            (end, "continuous"),
            (near, "continuous"),
            (near, "gkd"),
        )
    )
    assert np.abs(close / at - 1).max() < 0.02
    # Near its ends the published form is the distance to them times their KL.
    assert np.abs(gkd / (0.001 * at) - 1).max() < 0.02


@pytest.mark.invariant(number=2)
@pytest.mark.parametrize("convention, beta", FORMS + ENDS)
def test_loss_and_gradient_of_equal_models_are_zero(convention, beta):
    loss = GeneralizedJSD(beta, convention=convention)
    for found in results(loss, STACKED.teacher, STACKED.teacher):
        assert np.abs(found).max() < 1e-6


@pytest.mark.invariant(number=2)
@pytest.mark.parametrize("convention, beta", FORMS)
def test_loss_is_invariant_to_a_shift_of_all_logits(convention, beta):
    loss = GeneralizedJSD(beta, 4.0, convention)
    before = results(loss)
    after = results(loss, CASE.student + 16.0, CASE.teacher - 64.0)
    for one, other in zip(after, before, strict=True):
        assert_close(one, other, 2e-5)


@pytest.mark.parametrize("mask", [-1e9, -np.inf])
@pytest.mark.parametrize("convention, beta", FORMS)
def test_masked_classes_are_ignored(convention, beta, mask):
    loss, kept = GeneralizedJSD(beta, convention=convention), np.arange(100) > 4
    value, slopes = results(loss, *(np.where(kept, z, mask) for z in CASE[:2]))
    expected, slope = results(loss, *(z[:, kept] for z in CASE[:2]))
    assert_close(value, expected, 1e-6)
    assert_close(slopes[:, kept], slope, 1e-6)
    assert (slopes[:, ~kept] == 0).all()


@pytest.mark.invariant(number=6)
@pytest.mark.parametrize("mask", [-1e9, -np.inf])
@pytest.mark.parametrize("convention, beta", FORMS + ENDS)
def test_all_is_finite_for_classes_masked_by_one_model(convention, beta, mask):
    loss, kept = GeneralizedJSD(beta, convention=convention), np.arange(100) > 4
    masked = [np.where(kept, z, mask) for z in CASE[:2]]
    for pair in ((masked[0], CASE.teacher), (CASE.student, masked[1])):
        assert all(np.isfinite(found).all() for found in results(loss, *pair))


def test_any_temperature_sets_temperatures_and_weight():
    def expected(student, teacher):
        t_student, t_teacher = oracles.temperatures(student, teacher, 4.0, "std", 0.1)
        divergence = oracles_pointwise.generalized_jsd(
            teacher / t_teacher, student / t_student, 0.3
        )
        return (t_student * t_teacher)[..., 0] * divergence

    loss = GeneralizedJSD(0.3, Dynamic(4.0, rule="std"))
    assert_equals_oracle(loss, expected, CASE)


def test_temperature_can_be_set_to_a_number():
    loss = GeneralizedJSD(0.3)
    loss.temperature = 2.0
    assert_close(results(loss)[0], oracle(0.3, "gkd", 2.0)(*CASE[:2]))


@pytest.mark.parametrize(
    "invalid, received",
    [
        ({"beta": -0.1}, "beta=-0.1"),
        ({"beta": 1.5}, "beta=1.5"),
        ({"beta": float("nan")}, "beta=nan"),
        ({"beta": "half"}, "beta='half'"),
        ({"convention": "trl"}, "convention='trl'"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"weight": -0.5}, "weight=-0.5"),
    ],
)
def test_invalid_arguments_raise_with_the_received_value(invalid, received):
    with pytest.raises(ValueError) as error:
        GeneralizedJSD(**invalid)
    assert received in str(error.value)


@pytest.mark.parametrize(
    "loss",
    [
        GeneralizedJSD(),
        GeneralizedJSD(0.1, Constant(2.0), "continuous", 0.5, 3, name="mixed"),
        GeneralizedJSD(1, Dynamic(3.0, "max", "weight"), warmup_epochs="auto"),
    ],
)
def test_serializes(loss):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(loss)))
    restored = keras.saving.deserialize_keras_object(config)
    assert type(restored) is GeneralizedJSD
    assert restored.get_config() == loss.get_config()
    assert np.array_equal(results(restored)[0], results(loss)[0])
