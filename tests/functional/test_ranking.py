"""Soft ranks near true ones, and have the gradient that those have not."""

import numpy as np
import pytest

from keras_dtkd.functional.ranking import soft_ranks, spearman
from tests import oracles, oracles_correlation
from tests.gradients import gradient, value_and_grad
from tests.logit_cases import CASE, assert_close
from tests.tensors import numpy, tensor


def true_ranks(z):
    return 1.0 + z.argsort(-1).argsort(-1)


def correlation(x, y):
    return spearman(soft_ranks(x), soft_ranks(y))


@pytest.mark.parametrize("rank_temperature", [0.2, 1.0, np.array([[0.5], [2.0]] * 4)])
def test_soft_ranks_equal_the_formula(rank_temperature):
    value = soft_ranks(tensor(CASE.student), tensor(rank_temperature))
    wide = (
        rank_temperature[..., None] if np.ndim(rank_temperature) else rank_temperature
    )
    assert_close(
        numpy(value), oracles_correlation.soft_ranks(CASE.student, wide), 1e-5, 100.0
    )


def test_soft_ranks_approach_the_true_ranks():
    value = numpy(soft_ranks(tensor(CASE.student), 1e-6))
    assert_close(value, true_ranks(CASE.student))


def test_equal_values_share_their_mean_rank():
    value = numpy(
        soft_ranks(tensor([[3.0, 1.0, 3.0, 7.0], [2.0, 2.0, 2.0, 2.0]]), 1e-3)
    )
    assert value.tolist() == [[2.5, 1.0, 2.5, 4.0], [2.5, 2.5, 2.5, 2.5]]


@pytest.mark.parametrize("mask", [-1e9, -np.inf])
def test_excluded_classes_have_no_rank_and_affect_none(mask):
    kept = ~np.isin(np.arange(100), (3, 4))
    masked = np.where(kept, CASE.student, mask)
    where = tensor(kept * np.ones((8, 1), bool), "bool")
    value = numpy(soft_ranks(tensor(masked), 1.0, where))
    expected = oracles_correlation.soft_ranks(CASE.student[:, kept])
    assert_close(value[:, kept], expected, 1e-5, 100.0)
    assert (value[:, ~kept] == 0).all()
    slope = gradient(
        lambda z: spearman(
            soft_ranks(z, 1.0, where),
            soft_ranks(tensor(CASE.teacher), 1.0, where),
            where,
        ),
        masked,
    )
    assert np.isfinite(slope).all() and (slope[:, ~kept] == 0).all()


@pytest.mark.invariant(number=5)
def test_spearman_and_its_gradient_equal_the_formula():
    value, slope = value_and_grad(
        lambda z: correlation(z, tensor(CASE.teacher)), CASE.student
    )

    def oracle(z):
        return oracles_correlation.soft_spearman(z, CASE.teacher)

    assert_close(value, oracle(CASE.student))
    expected = oracles.gradient(oracle, CASE.student)
    assert np.abs(expected).max() > 1e-3
    assert_close(slope, expected, 1e-6)


def test_spearman_of_true_ranks_is_pearsons_correlation_of_them():
    ranks = [true_ranks(z) for z in CASE[:2]]
    expected = [np.corrcoef(*pair)[0, 1] for pair in zip(*ranks, strict=True)]
    assert_close(numpy(spearman(*map(tensor, ranks))), expected, 3e-5)


def test_ranks_are_invariant_to_increasing_functions():
    x = np.linspace(-2.0, 2.0, 20)[None]
    ranks = [soft_ranks(tensor(z), 1e-4) for z in (x, np.exp(x), -x)]
    assert_close(numpy(spearman(ranks[0], ranks[1])), 1.0, 1e-6)
    assert_close(numpy(spearman(ranks[0], ranks[2])), -1.0, 1e-4)


@pytest.mark.invariant(number=2)
@pytest.mark.parametrize("values", [CASE.teacher, np.full((8, 100), 0.3)])
def test_equal_values_correlate_fully_without_gradient(values):
    value, slope = value_and_grad(lambda z: correlation(z, tensor(values)), values)
    assert_close(value, 1.0, 1e-6)
    assert np.abs(slope).max() < 1e-6


@pytest.mark.invariant(number=6)
def test_gradients_are_finite_where_all_logits_tie_and_where_they_are_huge():
    for z in (np.full((8, 100), 0.3), 5e3 * CASE.student):
        slope = gradient(lambda x: correlation(x, tensor(CASE.teacher)), z)
        assert np.isfinite(slope).all() and np.abs(slope).max() < 10.0
