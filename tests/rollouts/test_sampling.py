"""Tokens are drawn by inverse transform, as NumPy draws them."""

import numpy as np
import pytest

from keras_dtkd.rollouts import sampling
from tests import language
from tests.tensors import numpy, tensor

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(scale=3.0, size=(40, 12)).astype("float32")
UNIFORMS = RNG.uniform(size=40).astype("float32")


def draws(logits, uniforms, **kwargs):
    result = sampling.draw_tokens(tensor(logits), tensor(uniforms), **kwargs)
    return numpy(result).astype(int)


@pytest.mark.parametrize("temperature", [1.0, 0.3, 4.0])
@pytest.mark.parametrize("top_p", [1.0, 0.7, 0.05])
def test_tokens_are_those_of_the_inverse_cdf(temperature, top_p):
    expected = [
        language.draw(logits.astype("float64"), u, temperature, top_p)
        for logits, u in zip(LOGITS, UNIFORMS, strict=True)
    ]
    actual = draws(LOGITS, UNIFORMS, temperature=temperature, top_p=top_p)
    assert actual.tolist() == expected


def test_frequencies_are_the_probabilities():
    logits = np.tile(LOGITS[:1], (4000, 1))
    uniforms = (np.arange(4000) + 0.5).astype("float32") / 4000
    share = np.bincount(draws(logits, uniforms), minlength=12) / 4000
    probs = np.exp(LOGITS[0]) / np.exp(LOGITS[0]).sum()
    np.testing.assert_allclose(share, probs, atol=1e-3)


def test_temperature_0_takes_the_most_probable_token():
    actual = draws(LOGITS, UNIFORMS, temperature=0.0)
    assert (actual == LOGITS.argmax(-1)).all()


def test_a_token_of_probability_0_is_never_drawn():
    logits = np.full((6, 4), -np.inf, "float32")
    logits[:, 1:3] = 0.0
    uniforms = np.array([0.0, 1e-30, 0.5, 0.75, 1 - 2**-24, np.nextafter(1, 0)])
    assert set(draws(logits, uniforms.astype("float32"))) == {1, 2}


def test_large_logits_are_no_nan():
    logits = np.array([[1e30, -1e30, 0.0]], "float32")
    assert draws(logits, [0.99], temperature=0.1).tolist() == [0]


def test_ranks_are_the_order_of_top_k():
    logits = np.round(LOGITS)  # With ties.
    order = np.argsort(-logits, axis=-1, kind="stable")
    for place in (0, 3, 11):
        ranks = sampling.token_ranks(tensor(logits), tensor(order[:, place], "int32"))
        assert (numpy(ranks) == place).all()


@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.95])
def test_the_nucleus_is_the_fewest_tokens_that_reach_top_p(top_p):
    for logits in LOGITS[:5]:
        probs = np.exp(logits.astype("float64"))
        probs /= probs.sum()
        order = np.argsort(-probs)
        size = int(np.argmax(np.cumsum(probs[order]) >= top_p)) + 1
        inside = sampling.is_in_nucleus(
            tensor(np.tile(logits, (12, 1))), tensor(np.arange(12), "int32"), top_p
        )
        assert set(np.flatnonzero(numpy(inside))) == set(order[:size])
