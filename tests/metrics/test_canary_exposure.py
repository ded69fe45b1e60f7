"""Exposure is the exact rank of a secret, whatever the model and the batches."""

import itertools

import keras
import numpy as np
import pytest

from keras_dtkd.metrics import CanaryExposure, score_candidates
from tests import oracles
from tests.tensors import tensor
from tests.tiny_models import sequence


def exposure(index, scores, *weights):
    metric = CanaryExposure()
    metric.update_state(index, scores, *weights)
    return float(metric.result())


def test_equals_its_formula_by_sorting():
    rng = np.random.default_rng(0)
    scores, index = rng.normal(size=(5, 1000)), rng.integers(0, 1000, 5)
    order = np.argsort(-scores, axis=1)
    ranks = [1 + list(row).index(i) for row, i in zip(order, index, strict=True)]
    expected = np.mean(np.log2(1000) - np.log2(ranks))
    assert exposure(index, tensor(scores)) == pytest.approx(expected, rel=1e-6)


def test_a_known_secret_has_all_bits_and_the_unlikeliest_none():
    scores = tensor(np.arange(1024.0)[None])
    assert exposure([1023], scores) == 10.0
    assert exposure([0], scores) == 0.0
    assert exposure([1021], scores) == pytest.approx(10 - np.log2(3))


def test_the_secret_is_first_among_equals_so_that_no_leak_is_understated():
    assert exposure([3], tensor(np.zeros((1, 16)))) == 4.0
    assert exposure([3], tensor([[0.0, 1.0, 1.0, 1.0]])) == 2.0
    assert exposure([0], tensor([[0.0, 1.0, 1.0, 0.0]])) == pytest.approx(
        2 - np.log2(3)
    )
    assert exposure([0], tensor([[np.nan, 1.0, 1.0, 0.0]])) == 2.0


def test_the_unknown_secrets_of_a_model_have_one_bit_and_a_half():
    scores = np.random.default_rng(0).normal(size=(1, 4096)).repeat(4096, axis=0)
    assert exposure(np.arange(4096), scores) == pytest.approx(np.log2(np.e), abs=0.01)


def log_likelihoods(model, prefix, candidates):
    """One by one, float64."""
    tokens = np.hstack([np.tile(prefix, (len(candidates), 1)), candidates])
    logits = np.float64(keras.ops.convert_to_numpy(model(tokens[:, :-1])))
    log_probs = oracles.log_softmax(logits)[:, len(prefix) - 1 :]
    return np.take_along_axis(log_probs, candidates[..., None], -1)[..., 0].sum(-1)


@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("batch_size", [5, 256])
def test_all_candidates_are_scored_in_their_order(length, batch_size):
    layers = [
        keras.layers.Embedding(4, 6),
        keras.layers.GRU(5, return_sequences=True, bias_initializer="random_normal"),
        keras.layers.Dense(4, kernel_initializer="random_normal"),
    ]
    model = keras.Sequential([keras.Input((None,), dtype="int32"), *layers])
    candidates = np.array(list(itertools.product(range(4), repeat=length)))
    candidates = np.random.default_rng(0).permutation(candidates)
    scores = score_candidates(model, [1, 2], candidates, batch_size=batch_size)
    expected = log_likelihoods(model, [1, 2], candidates)
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_a_model_may_take_other_inputs_than_tokens():
    tokens = keras.Input((None,), dtype="int32", name="token_ids")
    mask = keras.Input((None,), dtype="int32", name="padding_mask")
    inner = sequence(classes=9)
    model = keras.Model({"token_ids": tokens, "padding_mask": mask}, inner(tokens))
    candidates = np.array([[1, 2], [3, 4], [1, 3]])
    scores = score_candidates(
        model,
        [5],
        candidates,
        to_inputs=lambda t: {"token_ids": t, "padding_mask": np.ones_like(t)},
    )
    np.testing.assert_allclose(scores, score_candidates(inner, [5], candidates))


@pytest.mark.invariant(number=10)
def test_what_cannot_be_scored_is_refused():
    model = sequence()
    with pytest.raises(ValueError, match="`prefix` must be"):
        score_candidates(model, [], [[1]])
    for wrong in ([1, 2], [[0.5]], np.zeros((0, 2), int)):
        with pytest.raises(ValueError, match="`candidates` must be"):
            score_candidates(model, [1], wrong)
    with pytest.raises(ValueError, match="`batch_size` must be"):
        score_candidates(model, [1], [[1]], batch_size=0)
