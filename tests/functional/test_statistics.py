"""Statistics of logits equal NumPy's, and masked classes do not enter them."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd.functional import statistics
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
from tests.tensors import numpy, tensor


def masked(mask, shape=(8, 100)):
    """Logits with two classes masked out, and which classes are left."""
    z = draw(shape).student
    kept = ~np.isin(np.arange(shape[-1]), (3, 4))
    z[..., ~kept] = mask
    return z, kept


@pytest.mark.parametrize("case", FLOAT32_NAMES)
def test_center_is_the_difference_from_the_mean(case):
    z = CASES[case].student
    scale = np.abs(z).max()
    assert_close(numpy(statistics.center(tensor(z))), oracles.centered(z), 1e-6, scale)


@pytest.mark.parametrize("case", FLOAT32_NAMES)
def test_entropy_equals_the_formula(case):
    z = CASES[case].student
    p, log_p = oracles.softmax(z), oracles.log_softmax(z)
    expected = -(p * log_p).sum(-1)
    assert_close(numpy(statistics.entropy(tensor(log_p))), expected, 1e-5)
    share = numpy(statistics.entropy(tensor(log_p), normalized=True))
    assert_close(share, expected / np.log(z.shape[-1]), 1e-5)


def test_the_entropy_of_a_single_class_is_zero():
    value = statistics.entropy(tensor(np.zeros((3, 1))), normalized=True)
    assert numpy(value).tolist() == [0.0] * 3


@pytest.mark.parametrize("case", FLOAT32_NAMES)
def test_std_is_the_standard_deviation(case):
    z = CASES[case].student
    expected = z.std(-1, keepdims=True)
    assert_close(numpy(statistics.std(tensor(z))), expected, 1e-5, expected)


@pytest.mark.invariant(number=6)
@pytest.mark.parametrize("where", [None, True])
def test_std_has_a_finite_gradient_for_equal_logits(where):
    z = np.full((2, 5), 0.5)
    where = None if where is None else ops.ones((2, 5), "bool")
    value, gradient = value_and_grad(
        lambda x: statistics.std(x, where=where)[..., 0], z
    )
    assert_close(value, 1e-12 * np.ones(2), 1e-15)
    assert (gradient == 0).all()


@pytest.mark.parametrize("case", FLOAT32_NAMES)
def test_sharpness_equals_the_formula_on_centered_logits(case):
    assert_equals_oracle(
        lambda student, _: statistics.sharpness(student, 4.0),
        lambda student, _: oracles.sharpness(student / 4.0)[..., 0],
        CASES[case],
        scale=digits(CASES[case]),
    )


def test_sharpness_takes_a_temperature_for_each_sample():
    z, temperature = draw((8, 100)).student, np.array([[0.5], [1.0], [3.0], [9.0]] * 2)
    actual = statistics.sharpness(tensor(z), tensor(temperature))
    assert_close(numpy(actual), oracles.sharpness(z / temperature)[..., 0], 1e-5)


def test_sharpness_of_equal_logits_is_log_classes():
    actual = statistics.sharpness(tensor(np.full((3, 7), 123.0)))
    assert_close(numpy(actual), np.full(3, np.log(7)), 1e-6)


@pytest.mark.parametrize("mask", [-1e9, -np.inf])
def test_masked_classes_are_ignored(mask):
    z, kept = masked(mask)
    where = statistics.is_unmasked(tensor(z))
    assert np.array_equal(ops.convert_to_numpy(where)[0], kept)
    centered = numpy(statistics.center(tensor(z), where=where))
    assert_close(centered[:, kept], oracles.centered(z[:, kept]), 1e-6)
    assert (centered[:, ~kept] == 0).all()
    spread = numpy(statistics.std(tensor(z), where=where))
    assert_close(spread, z[:, kept].std(-1, keepdims=True), 1e-6)
    actual, gradient = value_and_grad(statistics.sharpness, z)
    assert_close(actual, oracles.sharpness(z[:, kept])[:, 0], 1e-6)
    assert np.isfinite(gradient).all() and (gradient[:, ~kept] == 0).all()


@pytest.mark.parametrize("mask", [-1e9, -np.inf])
def test_soft_log_probs_equal_the_formula_with_masked_classes(mask):
    z, kept = masked(mask)
    temperature = np.array([[1e-5], [0.1], [4.0], [8.0]] * 2)
    value, gradient = value_and_grad(
        # What is masked weighs nothing, as in an expectation.
        lambda x: ops.exp(statistics.soft_log_probs(x, tensor(temperature)))[:, 0],
        z,
    )

    def oracle(x):
        return oracles.softmax(x / temperature)[:, 0]

    assert_close(value, oracle(z[:, kept]), 1e-5)
    expected = oracles.gradient(oracle, z[:, kept])
    assert_close(gradient[:, kept], expected, 1e-5, np.abs(expected).max())
    assert (gradient[:, ~kept] == 0).all()


@pytest.mark.parametrize("shift", [0.0, 256.0, -256.0])
def test_a_common_shift_does_not_change_the_temperatures_gradient(shift):
    z, other = (oracles.centered(side[:8]) for side in STACKED[:2])
    z = np.round(z * 1024) / 1024 + shift
    weights = oracles.softmax(other)

    def cross_entropy(temperature):
        log_probs = statistics.soft_log_probs(tensor(z), temperature)
        return -ops.sum(tensor(weights) * log_probs, axis=-1)

    _, gradient = value_and_grad(cross_entropy, np.full((8, 1), 4.0))
    expected = oracles.gradient(
        lambda t: -(weights * oracles.log_softmax(z / t)).sum(-1), np.full((8, 1), 4.0)
    )
    assert_close(gradient, expected, 3e-6)


def test_agreement_is_one_where_the_predictions_are_equal():
    teacher = np.array([[0.0, 1.0, 2.0], [5.0, 1.0, 2.0], [0.0, 9.0, 2.0]])
    student = np.array([[-9.0, 0.0, 0.1], [0.0, 0.2, 0.1], [1.0, 2.0, 1.5]])
    actual = statistics.agreement(tensor(student), tensor(teacher))
    assert keras.backend.standardize_dtype(actual.dtype) == "float32"
    assert numpy(actual).tolist() == [1.0, 0.0, 1.0]
