"""Tiny language models, prompts, and rollouts by hand."""

import keras
import numpy as np
from keras import ops

from tests.tensors import tensor

VOCABULARY, LENGTH = 12, 10


@keras.saving.register_keras_serializable("tests")
class PrefixMean(keras.layers.Layer):
    """The mean of all positions so far, so that outputs depend on all of a prefix."""

    def call(self, inputs):
        counts = ops.cumsum(ops.ones_like(inputs[..., :1]), axis=1)
        return ops.cumsum(inputs, axis=1) / counts


def language_model(seed=0, width=8, scale=3.0, takes_mask=False, length=None):
    """From token ids to logits; with random weights far from uniform."""
    token_ids = keras.Input((length,), dtype="int32", name="token_ids")
    table = keras.initializers.RandomNormal(stddev=scale, seed=seed)
    head = keras.initializers.RandomNormal(stddev=1.0, seed=seed + 1)
    x = keras.layers.Embedding(VOCABULARY, width, table)(token_ids)
    x = x + PrefixMean()(x)
    outputs = keras.layers.Dense(VOCABULARY, kernel_initializer=head)(x)
    inputs = token_ids
    if takes_mask:
        mask = keras.Input((length,), dtype="bool", name="padding_mask")
        inputs = {"token_ids": token_ids, "padding_mask": mask}
    return keras.Model(inputs, outputs)


def make_prompts(batch=3, length=4, seed=0):
    """Prompts of 1 to `length` tokens, padded with 0."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, length + 1, batch)
    lengths[0] = length
    mask = (np.arange(length) < lengths[:, None]).astype("int32")
    token_ids = rng.integers(1, VOCABULARY, (batch, length)) * mask
    return {"token_ids": token_ids.astype("int32"), "padding_mask": mask}


def make_uniforms(batch=3, length=LENGTH, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(size=(length, batch, 2)).astype("float32")


def as_tensors(prompts):
    return {name: tensor(values, "int32") for name, values in prompts.items()}


def next_logits(model, token_ids):
    """The logits of the token that follows, float64 NumPy."""
    x = tensor([token_ids], "int32")
    if isinstance(model.input, dict):
        x = {"token_ids": x, "padding_mask": ops.ones_like(x)}
    outputs = model(x, training=False)
    return np.array(ops.convert_to_numpy(outputs), "float64")[0, -1]


def draw(logits, uniform, temperature=1.0, top_p=1.0):
    """Inverse transform in float64, over the nucleus of `top_p`."""
    logits = (logits - logits.max()) / max(temperature, 1e-6)
    probs = np.exp(logits) / np.exp(logits).sum()
    order = np.argsort(-probs, kind="stable")
    before = np.cumsum(probs[order]) - probs[order]
    probs[order[before >= top_p]] = 0.0
    cumulative = np.cumsum(probs)
    return int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))


def top_tokens(logits, k):
    return np.argsort(-logits, kind="stable")[: int(k)]


def roll_out(student, teacher, prompts, uniforms, rollout):
    """Algorithm 1 of SKD (arXiv 2410.11325), a sequence and a token at a time.

    Returns each sequence's tokens, and for those generated whether they are kept.
    """
    sequences, kept = [], []
    for row, mask in enumerate(prompts["padding_mask"]):
        tokens, accepted = list(prompts["token_ids"][row][mask > 0]), []
        while len(tokens) < rollout.max_length:
            for_student, for_teacher = uniforms[len(tokens), row]
            args = for_student, rollout.student_temperature, rollout.top_p
            token = draw(next_logits(student, tokens), *args)
            logits = next_logits(teacher, tokens)
            accepted.append(token in top_tokens(logits, rollout.k))
            if not accepted[-1]:
                args = for_teacher, rollout.teacher_temperature, rollout.top_p
                token = draw(logits, *args)
            tokens.append(token)
            if token in rollout.stop_token_ids:
                break
        sequences.append(tokens)
        kept.append(accepted)
    return sequences, kept
