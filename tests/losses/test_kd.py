"""KD equals Hinton's formula, with any divergence and any temperature."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd.losses import KD
from keras_dtkd.temperatures import Constant, Dynamic
from tests import oracles
from tests.gradients import value_and_grad
from tests.logit_cases import (
    CASES,
    STACKED,
    assert_close,
    assert_equals_oracle,
    digits,
    draw,
)

NAMES = ("kl", "reverse_kl", "jsd")
CASE = draw((8, 100))


def tensor(z):
    return ops.convert_to_tensor(z, "float32")


def values(loss, case=CASE):
    return np.asarray(ops.convert_to_numpy(loss(*map(tensor, case[:2]))), "float64")


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", NAMES)
def test_equals_the_formula(name, case):
    assert_equals_oracle(
        KD(divergence=name),
        lambda student, teacher: oracles.kd(student, teacher, divergence=name),
        CASES[case],
    )


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("name", NAMES)
def test_compiled_equals_the_formula(name):
    assert_equals_oracle(
        KD(temperature=2.0, divergence=name),
        lambda student, teacher: oracles.kd(student, teacher, 2.0, divergence=name),
        STACKED,
        compiled=True,
        scale=digits(STACKED),
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


@pytest.mark.invariant(number=2)
@pytest.mark.parametrize("name", NAMES)
def test_loss_and_gradient_of_equal_models_are_zero(name):
    value, gradient = value_and_grad(
        lambda z: KD(divergence=name)(z, tensor(STACKED.teacher)), STACKED.teacher
    )
    assert np.abs(value).max() < 2e-5
    assert np.abs(gradient).max() < 2e-5


@pytest.mark.invariant(number=2)
@pytest.mark.parametrize("name", NAMES)
def test_loss_is_invariant_to_a_shift_of_all_logits(name):
    loss = KD(divergence=name)
    before, gradient = value_and_grad(
        lambda z: loss(z, tensor(CASE.teacher)), CASE.student
    )
    after, shifted = value_and_grad(
        lambda z: loss(z, tensor(CASE.teacher - 64.0)), CASE.student + 16.0
    )
    assert_close(after, before, 2e-5)
    assert_close(shifted, gradient)


@pytest.mark.parametrize("mask", [-1e9, -np.inf])
@pytest.mark.parametrize("name", NAMES)
def test_masked_classes_are_ignored(name, mask):
    kept = ~np.isin(np.arange(100), (3, 4))
    masked = [np.where(kept, z, mask) for z in CASE[:2]]
    value, gradient = value_and_grad(
        lambda z: KD(divergence=name)(z, tensor(masked[1])), masked[0]
    )
    student, teacher = (z[:, kept] for z in CASE[:2])

    def oracle(z):
        return oracles.kd(z, teacher, divergence=name)

    assert_close(value, oracle(student), 1e-5, oracle(student))
    assert_close(gradient[:, kept], oracles.gradient(oracle, student))
    assert (gradient[:, ~kept] == 0).all()


@pytest.mark.parametrize("mask", [-1e9, -np.inf])
@pytest.mark.parametrize("name", NAMES)
def test_all_is_finite_for_classes_masked_by_one_model(name, mask):
    kept = ~np.isin(np.arange(100), (3, 4))
    for student, teacher in (
        (np.where(kept, CASE.student, mask), CASE.teacher),
        (CASE.student, np.where(kept, CASE.teacher, mask)),
    ):
        value, gradient = value_and_grad(
            lambda z, t=teacher: KD(divergence=name)(z, tensor(t)), student
        )
        assert np.isfinite(value).all() and np.isfinite(gradient).all()


def test_any_temperature_sets_temperatures_and_weight():
    loss = KD(temperature=Dynamic(4.0, rule="std"), divergence="reverse_kl")
    assert_equals_oracle(
        loss,
        lambda student, teacher: oracles.dtkd(
            student, teacher, 4.0, 1.0, 0.0, "std", divergence="reverse_kl"
        ),
        CASE,
    )


def test_temperature_can_be_set_to_a_number():
    loss = KD(4.0)
    loss.temperature = 2.0
    assert_close(values(loss), oracles.kd(*CASE[:2], 2.0), 1e-5, 10.0)
    loss = KD(Dynamic(4.0))
    loss.temperature = 2.0
    expected = oracles.dtkd(*CASE[:2], 2.0, 1.0, 0.0)
    assert_close(values(loss), expected, 1e-5, expected)


@pytest.mark.parametrize(
    "invalid, received",
    [
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"temperature": -4.0}, "temperature=-4.0"),
        ({"temperature": "warm"}, "temperature='warm'"),
        ({"divergence": "hellinger"}, "divergence='hellinger'"),
        ({"weight": -0.5}, "weight=-0.5"),
        ({"warmup_epochs": -2}, "warmup_epochs=-2"),
    ],
)
def test_invalid_arguments_raise_with_the_received_value(invalid, received):
    with pytest.raises(ValueError) as error:
        KD(**invalid)
    assert received in str(error.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"temperature": 2.0, "divergence": "jsd", "weight": 0.5, "warmup_epochs": 3},
        {"temperature": Constant(2.0), "divergence": "reverse_kl", "name": "soft"},
        {"temperature": Dynamic(3.0, "max", "weight"), "warmup_epochs": "auto"},
    ],
)
def test_serializes(arguments):
    loss = KD(**arguments)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(loss)))
    restored = keras.saving.deserialize_keras_object(config)
    assert type(restored) is KD
    assert restored.get_config() == loss.get_config()
    assert np.array_equal(values(restored), values(loss))
