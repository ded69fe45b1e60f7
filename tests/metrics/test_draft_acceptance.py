"""The share of a student's tokens that speculative decoding accepts."""

import numpy as np
import pytest

from keras_dtkd.metrics import DraftAcceptance

RNG = np.random.default_rng(0)
TEACHER, STUDENT = RNG.normal(scale=2.0, size=(2, 5, 7, 9))


def softmax(x, temperature):
    p = np.exp(x / temperature)
    return p / p.sum(-1, keepdims=True)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_is_the_common_mass_under_the_weights(temperature):
    weights = RNG.integers(0, 2, (5, 7)).astype("float32")
    metric = DraftAcceptance(temperature)
    metric.update_state(TEACHER, STUDENT, weights)
    p, q = softmax(TEACHER, temperature), softmax(STUDENT, temperature)
    expected = (np.minimum(p, q).sum(-1) * weights).sum() / weights.sum()
    assert float(metric.result()) == pytest.approx(expected, rel=1e-5)


def test_is_what_speculative_sampling_accepts():
    """A draft y from q is kept with the chance min(1, p(y) / q(y))."""
    p, q = softmax(TEACHER[0, 0], 1.0), softmax(STUDENT[0, 0], 1.0)
    drafts = RNG.choice(9, 200_000, p=q)
    kept = RNG.uniform(size=len(drafts)) < (p / q)[drafts]
    metric = DraftAcceptance()
    metric.update_state(TEACHER[:1, :1], STUDENT[:1, :1])
    assert float(metric.result()) == pytest.approx(kept.mean(), abs=5e-3)


def test_expected_tokens_are_a_geometric_series():
    metric = DraftAcceptance()
    metric.update_state(TEACHER, STUDENT)
    alpha = float(metric.result())
    expected = (1 - alpha**6) / (1 - alpha)
    assert metric.expected_tokens(5) == pytest.approx(expected)
    equal = DraftAcceptance()
    equal.update_state(TEACHER, TEACHER)
    assert equal.expected_tokens(5) == pytest.approx(6, rel=1e-4)
