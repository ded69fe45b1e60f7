"""TotalVariation equals its formula, with any temperature."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd.losses import TotalVariation
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

CASE = draw((8, 100))


def tensor(z):
    return ops.convert_to_tensor(z, "float32")


def results(loss, student=CASE.student, teacher=CASE.teacher):
    return value_and_grad(lambda z: loss(z, tensor(teacher)), student)


def oracle(tau=1.0):
    return lambda student, teacher: (
        tau**2 * oracles_pointwise.total_variation(teacher / tau, student / tau)
    )


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("tau", [1.0, 4.0])
def test_equals_the_formula(tau, case):
    assert_equals_oracle(
        TotalVariation(tau), oracle(tau), CASES[case], scale=digits(CASES[case])
    )


@pytest.mark.invariant(number=5)
def test_compiled_equals_the_formula():
    assert_equals_oracle(
        TotalVariation(2.0),
        oracle(2.0),
        STACKED,
        compiled=True,
        scale=digits(STACKED),
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


@pytest.mark.invariant(number=2)
def test_loss_is_invariant_to_a_shift_of_all_logits():
    loss = TotalVariation(4.0)
    before = results(loss)
    after = results(loss, CASE.student + 16.0, CASE.teacher - 64.0)
    for one, other in zip(after, before, strict=True):
        assert_close(one, other)


@pytest.mark.parametrize("mask", [-1e9, -np.inf])
def test_masked_classes_are_ignored(mask):
    loss, kept = TotalVariation(), np.arange(100) > 4
    value, slopes = results(loss, *(np.where(kept, z, mask) for z in CASE[:2]))
    expected, slope = results(loss, *(z[:, kept] for z in CASE[:2]))
    assert_close(value, expected, 1e-6)
    assert_close(slopes[:, kept], slope, 1e-6)
    assert (slopes[:, ~kept] == 0).all()


@pytest.mark.invariant(number=6)
@pytest.mark.parametrize("mask", [-1e9, -np.inf])
def test_all_is_finite_for_classes_masked_by_one_model(mask):
    kept = np.arange(100) > 4
    masked = [np.where(kept, z, mask) for z in CASE[:2]]
    for pair in ((masked[0], CASE.teacher), (CASE.student, masked[1])):
        assert all(
            np.isfinite(found).all() for found in results(TotalVariation(), *pair)
        )


def test_any_temperature_sets_temperatures_and_weight():
    def expected(student, teacher):
        t_student, t_teacher = oracles.temperatures(student, teacher, 4.0, "std", 0.1)
        distance = oracles_pointwise.total_variation(
            teacher / t_teacher, student / t_student
        )
        return (t_student * t_teacher)[..., 0] * distance

    assert_equals_oracle(TotalVariation(Dynamic(4.0, rule="std")), expected, CASE)


def test_temperature_can_be_set_to_a_number():
    loss = TotalVariation()
    loss.temperature = 2.0
    assert_close(results(loss)[0], oracle(2.0)(*CASE[:2]))


@pytest.mark.parametrize(
    "invalid, received",
    [
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"temperature": "warm"}, "temperature='warm'"),
        ({"weight": -0.5}, "weight=-0.5"),
        ({"warmup_epochs": -2}, "warmup_epochs=-2"),
    ],
)
def test_invalid_arguments_raise_with_the_received_value(invalid, received):
    with pytest.raises(ValueError) as error:
        TotalVariation(**invalid)
    assert received in str(error.value)


@pytest.mark.parametrize(
    "loss",
    [
        TotalVariation(),
        TotalVariation(Constant(2.0), 0.5, 3, name="distance"),
        TotalVariation(Dynamic(3.0, "max", "weight"), warmup_epochs="auto"),
    ],
)
def test_serializes(loss):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(loss)))
    restored = keras.saving.deserialize_keras_object(config)
    assert type(restored) is TotalVariation
    assert restored.get_config() == loss.get_config()
    assert np.array_equal(results(restored)[0], results(loss)[0])
