"""Correlations equal NumPy's, and rows and classes count by their weights."""

import numpy as np
import pytest
from keras import ops

from keras_dtkd.functional import correlation
from tests import oracles
from tests.gradients import value_and_grad
from tests.logit_cases import CASE, STACKED, assert_close
from tests.tensors import numpy, tensor

MASSES = np.array([2, 1, 0, 1, 3, 1, 0, 1])
BOTH = (correlation.cosine, correlation.pearson)


def unit(z, axis):
    return z / np.linalg.norm(z, axis=axis, keepdims=True)


def reference(measure, x, y, axis):
    """Without the epsilon, which is nothing beside norms of this size."""
    if measure is correlation.pearson:
        x, y = (z - z.mean(axis, keepdims=True) for z in (x, y))
    return (unit(x, axis) * unit(y, axis)).sum(axis)


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("measure", BOTH)
def test_equals_the_formula(measure, axis):
    value = measure(*map(tensor, CASE[:2]), axis)
    assert_close(numpy(value), reference(measure, *CASE[:2], axis), 1e-6)


def test_pearson_is_numpys():
    value = numpy(correlation.pearson(*map(tensor, CASE[:2])))
    pairs = zip(*CASE[:2], strict=True)
    assert_close(value, [np.corrcoef(*pair)[0, 1] for pair in pairs], 1e-6)


@pytest.mark.invariant(number=3)
@pytest.mark.parametrize("measure", BOTH)
def test_weight_two_equals_that_entry_twice_and_weight_zero_none(measure):
    value = measure(*map(tensor, CASE[:2]), 0, tensor(MASSES[:, None]))
    twice = [np.repeat(z, MASSES, axis=0) for z in CASE[:2]]
    assert_close(numpy(value), reference(measure, *twice, 0), 1e-6)


@pytest.mark.parametrize("constant", [0.01, 0.3, 1.0 / 3.0])
def test_correlation_with_a_constant_is_zero(constant):
    x = np.full((2, 100), constant)
    value, gradient = value_and_grad(
        lambda z: correlation.pearson(z, tensor(CASE.teacher[:2])), x
    )
    assert np.abs(value).max() < 1e-6 and np.isfinite(gradient).all()


@pytest.mark.invariant(number=6)
@pytest.mark.parametrize("measure", BOTH)
def test_all_zero_weights_give_zero_and_are_finite(measure):
    value, gradient = value_and_grad(
        lambda z: measure(z, tensor(CASE.teacher), -1, tensor(np.zeros((8, 1)))),
        CASE.student,
    )
    assert (value == 0).all() and (gradient == 0).all()


def test_soft_probs_equal_the_softmax():
    temperature = np.array([[0.5], [1.0], [4.0], [8.0]] * 2)
    for z in (CASE.student, CASE.student * 1e3, np.full((8, 100), 7.0)):
        value = correlation.soft_probs(tensor(z), tensor(temperature))
        assert_close(numpy(value), oracles.softmax(z / temperature), 3e-7)


def test_a_class_is_included_unless_both_models_mask_it():
    student = np.array([[0.0, -1e9, 1.0, -np.inf]])
    teacher = np.array([[0.0, 1.0, -1e9, -1e9]])
    value = correlation.unmasked_by_any(tensor(student), tensor(teacher))
    assert ops.convert_to_numpy(value).tolist() == [[True, True, True, False]]


def test_classes_masked_everywhere_are_excluded_from_the_mean():
    where = np.isin(np.arange(100), (3, 4), invert=True) * np.ones((8, 1), bool)
    q, p = (oracles.softmax(z) for z in CASE[:2])
    value = correlation.intra_class_distance(
        correlation.pearson, tensor(q), tensor(p), tensor(where, "bool")
    )
    kept = 1 - reference(correlation.pearson, q[:, where[0]], p[:, where[0]], 0)
    assert_close(numpy(value), kept.mean(), 1e-4)


@pytest.mark.invariant(number=3)
def test_a_class_is_included_in_samples_that_do_not_mask_it():
    where = np.ones((8, 100), bool)
    where[:4, 3] = False
    x, y = CASE[:2]
    value = correlation.intra_class_distance(
        correlation.cosine, *map(tensor, (x, y)), tensor(where, "bool")
    )
    expected = 1 - reference(correlation.cosine, x, y, 0)
    expected[3] = 1 - reference(correlation.cosine, x[4:, 3], y[4:, 3], 0)
    assert_close(numpy(value), expected.mean(), 1e-6)


def test_positions_of_sequences_are_samples():
    x, y = (z.reshape(2, 4, 100) for z in CASE[:2])
    where = np.ones((2, 4, 100), bool)
    value = correlation.intra_class_distance(
        correlation.cosine,
        tensor(x),
        tensor(y),
        tensor(where, "bool"),
        tensor(MASSES.reshape(2, 4)),
    )
    twice = [np.repeat(z, MASSES, axis=0) for z in CASE[:2]]
    expected = 1 - reference(correlation.cosine, *twice, 0).mean()
    assert_close(numpy(value), expected, 1e-6)


@pytest.mark.invariant(number=3)
def test_batch_weight_is_the_square_of_the_mean_temperature():
    temperatures = np.arange(1.0, 9.0)
    weight = tensor(temperatures**2)
    plain = numpy(correlation.batch_weight(weight))
    assert_close(plain, temperatures.mean() ** 2, 1e-5, plain)
    massed = numpy(correlation.batch_weight(weight, tensor(MASSES)))
    assert_close(massed, np.average(temperatures, weights=MASSES) ** 2, 1e-5, massed)
    nothing = correlation.batch_weight(weight, tensor(np.zeros(8)))
    assert numpy(nothing) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("weight", [16.0, 16])
def test_batch_weight_of_a_number_is_that_number(weight):
    value = correlation.batch_weight(weight, tensor(MASSES))
    assert numpy(value) == pytest.approx(16.0, rel=1e-6)


@pytest.mark.invariant(number=2)
@pytest.mark.parametrize("measure", BOTH)
def test_equal_arrays_have_zero_distance_and_gradient(measure):
    where = tensor(np.ones(STACKED.teacher.shape, bool), "bool")
    value, gradient = value_and_grad(
        lambda z: correlation.inter_class_distance(
            measure, z, tensor(STACKED.teacher[:8]), where[:8]
        ),
        STACKED.teacher[:8],
    )
    assert max(np.abs(value).max(), np.abs(gradient).max()) < 1e-6
