"""DIST equals its formula, and its rows count by their weights."""

import numpy as np
import pytest

from keras_dtkd.losses import DIST
from keras_dtkd.temperatures import Dynamic
from tests import oracles, oracles_correlation
from tests.gradients import value_and_grad
from tests.logit_cases import (
    CASE,
    CASE_NAMES,
    CASES,
    assert_batch_equals_oracle,
    assert_close,
    values,
)
from tests.oracles_correlation import dist, pearson
from tests.tensors import tensor


def last_digits(oracle, case, temperature=4.0):
    """How far the gradient moves with the last digits of float32 probabilities.

    A class on which nearly all rows agree has little but these to correlate.

    Args:
        oracle: Of the student's and the teacher's logits.
        case: A `Case`.
        temperature: Of the student.

    Returns:
        `(..., 1)`, in units of the tolerance.
    """
    signs = np.random.default_rng(0).choice([-1.0, 1.0], case.student.shape)
    # Equal logits have equal probabilities, whatever these are.
    signs *= np.ptp(case.student, axis=-1, keepdims=True) > 0
    slopes = [
        oracles_correlation.gradient(lambda z: oracle(z, case.teacher), student)
        for student in (case.student, case.student + temperature * 2.0**-22 * signs)
    ]
    return np.abs(slopes[1] - slopes[0]).max(-1, keepdims=True) / 1e-5


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("case", CASE_NAMES)
def test_equals_the_formula(case):
    case = CASES[case]
    assert_batch_equals_oracle(DIST(), dist, case, scale=last_digits(dist, case))


@pytest.mark.invariant(number=5)
def test_other_arguments_equal_the_formula():
    loss = DIST(temperature=2.0, beta=0.5, gamma=3.0)
    assert_batch_equals_oracle(
        loss,
        lambda student, teacher: dist(student, teacher, 2.0, 2.0, 0.5, 3.0),
        CASE,
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


def test_each_sample_has_its_temperatures_and_each_class_their_mean():
    loss = DIST(temperature=Dynamic(4.0, "std", True))

    def oracle(student, teacher):
        t = oracles.temperatures(student, teacher, 4.0, "std", 0.1)
        return dist(student, teacher, *map(oracles.constant, t))

    assert_batch_equals_oracle(loss, oracle, CASE)
