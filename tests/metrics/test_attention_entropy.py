"""Entropy of attention, as a share of its maximum."""

import numpy as np
import pytest

from keras_dtkd.metrics import AttentionEntropy
from keras_dtkd.models import TaskAttention
from tests.tensors import numpy, tensor


def measure(attention):
    metric = AttentionEntropy()
    metric.update_state(attention)
    return float(metric.result())


def test_equals_the_formula():
    d = np.random.default_rng(0).dirichlet(np.ones(5), size=7)
    expected = np.mean([-sum(p * np.log(p) for p in row) / np.log(5) for row in d])
    assert measure(d) == pytest.approx(expected, rel=1e-5)


def test_one_hot_is_zero_and_uniform_one():
    assert measure(np.eye(4)) == pytest.approx(0.0, abs=1e-7)
    assert measure(np.full((3, 4), 0.25)) == pytest.approx(1.0)
    assert measure(np.ones((3, 1))) == 0.0


@pytest.mark.invariant(number=6)
def test_saturated_attention_is_measured():
    attention = TaskAttention(2)
    attention.build([(None, 4)] * 3)
    attention.theta.assign([[1e4, -1e4, -1e4], [-1e4, -1e4, -1e4]])
    d = attention.attention()
    assert measure(d) == pytest.approx(0.5, rel=1e-6)
    assert np.isfinite(numpy(d)).all()


def test_rows_may_have_weights():
    metric = AttentionEntropy()
    metric.update_state(tensor([[1.0, 0.0], [0.5, 0.5]]), np.array([1.0, 3.0]))
    assert float(metric.result()) == pytest.approx(0.75, rel=1e-6)


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
def test_all_levels_at_once_are_refused():
    with pytest.raises(ValueError, match="measures one level.*list of 2"):
        measure([np.eye(2), np.eye(3)])
