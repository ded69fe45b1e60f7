"""The trained model of stories260k, against its known text and a model in NumPy."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import models, rollouts
from tests.tensors import numpy, tensor

pytest.importorskip("keras_hub", reason="KerasHub is not installed")

FOLDER = Path(__file__).parents[2].parent / "shared" / "data" / "stories260k"
pytestmark = pytest.mark.skipif(
    not FOLDER.exists(), reason="../shared/data/stories260k is not there."
)


@pytest.fixture(scope="module")
def known():
    return json.loads((FOLDER / "greedy.json").read_text())


@pytest.fixture(scope="module")
def model():
    return models.stories260k(FOLDER)


def rms_norm(x, gain):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * gain


def rotate(x):
    """RoPE of `(time, heads, 8)`, in pairs of neighbors."""
    turns = np.arange(len(x))[:, None] * 10000.0 ** (-np.arange(0, 8, 2) / 8)
    cos, sin = np.cos(turns)[:, None], np.sin(turns)[:, None]
    a, b = x[..., ::2], x[..., 1::2]
    return np.stack([a * cos - b * sin, a * sin + b * cos], -1).reshape(x.shape)


def forward(weights, tokens):
    """The logits of one sequence, float64, from the description of the weights."""
    w = {name: value.astype("float64") for name, value in weights.items()}
    x = w["embed"][tokens]
    count = len(tokens)
    future = np.triu(np.full((count, count), -np.inf), 1)
    for i in range(len(w["wq"])):
        h = rms_norm(x, w["attn_norm"][i])
        q = rotate((h @ w["wq"][i]).reshape(count, 8, 8))
        k = rotate((h @ w["wk"][i]).reshape(count, 4, 8)).repeat(2, axis=1)
        v = (h @ w["wv"][i]).reshape(count, 4, 8).repeat(2, axis=1)
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(8) + future
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        attended = np.einsum("hqk,khd->qhd", scores, v).reshape(count, 64)
        x = x + attended @ w["wo"][i]
        h = rms_norm(x, w["ffn_norm"][i])
        gate = h @ w["w1"][i]
        x = x + (gate / (1 + np.exp(-gate)) * (h @ w["w3"][i])) @ w["w2"][i]
    return rms_norm(x, w["final_norm"]) @ w["embed"].T


def test_logits_are_those_of_a_model_in_numpy(model, known):
    tokens = np.array(known["ids"])
    x = {"token_ids": tensor([tokens], "int32"), "padding_mask": tensor([[1] * 257])}
    actual = numpy(model(x))[0]
    expected = forward(np.load(FOLDER / "weights.npz"), tokens)
    np.testing.assert_allclose(actual, expected, atol=1e-4)
    log_probs = expected - np.log(np.exp(expected).sum(-1, keepdims=True))
    nll = -np.take_along_axis(log_probs[:-1], tokens[1:, None], -1).mean()
    assert nll == pytest.approx(known["mean_nll"], abs=1e-4)


def test_the_greedy_text_is_the_known_one_word_for_word(model, known):
    # The logits of the known text choose it again: by induction the greedy one. The
    # decoding itself is that of `test_a_cache_changes_no_token`.
    tokens = np.array([known["ids"]])
    x = {"token_ids": tensor(tokens, "int32"), "padding_mask": tensor([[1] * 257])}
    choices = numpy(ops.argmax(model(x), axis=-1))[0, :-1]
    assert choices.astype(int).tolist() == known["ids"][1:]
    assert models.LlamaTokenizer(FOLDER).decode(known["ids"]) == known["text"]


def test_a_cache_changes_no_token(model, known):
    length, start = 40, 8
    tokens = np.array([known["ids"][:start], known["ids"][:start]])
    mask = np.ones((2, start))
    mask[1, 4:] = 0
    prompts = {"token_ids": tensor(tokens, "int32"), "padding_mask": tensor(mask)}
    greedy = rollouts.Teacher(length, teacher_temperature=0.0)
    result = greedy(None, model, prompts, ops.zeros((length, 2, 2)))
    for row in numpy(result.token_ids).astype(int).tolist():
        assert row == known["ids"][:length]


def test_drafts_in_blocks_are_the_same_tokens(model, known):
    length = 24
    keras.utils.set_random_seed(0)
    student = models.llama_tiny(num_layers=1, hidden_dim=32, intermediate_dim=64)
    prompts = {
        "token_ids": tensor([known["ids"][:6]] * 2, "int32"),
        "padding_mask": tensor([[1] * 6, [1] * 3 + [0] * 3]),
    }
    uniforms = tensor(np.random.default_rng(0).uniform(size=(length, 2, 2)))
    one, four = (
        rollouts.Speculative(length, k=100, block=block)(
            student, model, prompts, uniforms
        )
        for block in (1, 4)
    )
    assert (numpy(one.token_ids) == numpy(four.token_ids)).all()
    assert (numpy(one.accepted) == numpy(four.accepted)).all()
    assert 0 < float(one.statistics["acceptance"]) < 1


@pytest.mark.single_backend
def test_the_tokenizer_encodes_and_decodes(known):
    tokenizer = models.LlamaTokenizer(FOLDER)
    assert tokenizer.encode(known["text"]) == known["ids"]
    encode = known["encode"]
    assert tokenizer.encode(encode["text"]) == encode["ids"]
    for text in ("", "Tom's €5", "a  b\n"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
