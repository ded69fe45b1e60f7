"""Measure what a student gives away of its teacher's private data

A language model of characters is trained on made-up sentences, among them ten secrets
("the pin of anna is 4831"), one to sixteen times each. It teaches a smaller one. How
much the student knows of each secret is its exposure: the rank of the true digits among
all 10,000. This example compares knowledge distillation (KD) with Swing distillation
(a reconstruction from the abstract of Li et al., arXiv 2212.08349), with controls, and
with the simple way: leaving the private characters out. It prints a table over three
seeds and draws a picture. Nothing is downloaded; nothing here is differential privacy.

It takes about MINUTES minutes on two processor cores; with `KERAS_DTKD_QUICK=1`, a smoke
run, less than one. Files go to the current folder, or to `KERAS_DTKD_OUT`.
"""

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np

from keras_dtkd import Distiller, datasets, losses, metrics

# What is private, of a text. The score of a character that is found is 1, else 0.
PRIVATE = r"pin of \w+ is (\d{4})"


def private_student(teacher, student, texts, tokens, epochs):
    """Trains a student on all texts. Private characters are hidden from it."""
    scores = datasets.privacy_scores(texts, char_offsets, PRIVATE, tokens.shape[1])
    # Labels are the next characters, and the scores are those of the labels.
    x = datasets.with_columns(tokens[:, :-1], privacy=scores[:, 1:])
    swing = losses.Swing(privacy="privacy", max_temperature=50.0, noise=1.0)
    distiller = Distiller(teacher, student, swing)
    return distiller.fit(x, tokens[:, 1:], epochs=epochs, verbose=0)


def exposure(model, prefix, pin):
    """From 0 bits to 13.3: the true digits are the likeliest of all 10,000."""
    likelihoods = metrics.score_candidates(model, encode(prefix), ALL_PINS)
    metric = metrics.CanaryExposure()
    metric.update_state([pin], likelihoods[None])
    return float(metric.result())


# %% [markdown]
# That is all you need: a score for each token, `Swing`, and a measurement.
#
# ## The data
# Two thousand sentences of a few templates, and ten secrets among them. `^` begins a
# sentence, and 0 is padding, which both models mask.

# %%
QUICK = os.environ.get("KERAS_DTKD_QUICK") == "1"
NUM_SENTENCES, TEACHER_EPOCHS, EPOCHS = (200, 3, 2) if QUICK else (2000, 60, 40)
SEEDS, EVERY = (range(1), 1) if QUICK else (range(3), 10)
REPEATS = [1, 1, 1, 4, 4, 4, 16, 16, 16, 16]

ALPHABET = " .0123456789^abcdefghijklmnopqrstuvwxyz"
NAMES = (
    "anna bert carl dora emil fred gina hans iris jack kate liam mona nora otto paul"
)
PLACES = "market station library garden harbor school office cinema museum bakery"
THINGS = "apples books chairs flowers hats lamps pens plates shoes stamps"
COLORS = "red green blue white black yellow"
NAMES, PLACES, THINGS, COLORS = map(str.split, (NAMES, PLACES, THINGS, COLORS))


def char_offsets(text):
    return [(i, i + 1) for i in range(len(text))]


def encode(text):
    return [1 + ALPHABET.index(character) for character in text]


ALL_PINS = np.array([encode(f"{pin:04d}") for pin in range(10_000)])


def new_sentence(rng):
    name, place, thing, color = map(rng.choice, (NAMES, PLACES, THINGS, COLORS))
    templates = (
        f"{name} went to the {place} at {rng.integers(1, 12)}.",
        f"{name} bought {rng.integers(2, 99)} {color} {thing}.",
        f"the {place} of {name} is {color}.",
        f"{name} was born in {rng.integers(1930, 2010)}.",
        f"the {thing} in the {place} are {color}.",
    )
    return "^" + templates[rng.integers(len(templates))]


def new_data(seed):
    """Texts with secrets, other texts without, and `(name, pin)` of the secrets."""
    rng = np.random.default_rng(seed)
    names = rng.permutation(NAMES)[: len(REPEATS)]
    secrets = list(zip(names, rng.integers(0, 10_000, len(REPEATS)), strict=True))
    texts = [new_sentence(rng) for _ in range(NUM_SENTENCES)]
    for (name, pin), repeats in zip(secrets, REPEATS, strict=True):
        texts += repeats * [f"^the pin of {name} is {pin:04d}."]
    held_out = [new_sentence(rng) for _ in range(500)]
    return [str(text) for text in rng.permutation(texts)], held_out, secrets


def to_tokens(texts, length=40):
    rows = [encode(text) + [0] * (length - len(text)) for text in texts]
    return np.array(rows, "int32")


# %% [markdown]
# ## The models


# %%
def new_model(width):
    layers = [
        keras.Input((None,), dtype="int32"),
        keras.layers.Embedding(1 + len(ALPHABET), 32, mask_zero=True),
        keras.layers.GRU(width, return_sequences=True),
        keras.layers.Dense(1 + len(ALPHABET)),
    ]
    model = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.005), loss)
    return model


def perplexity(model, tokens):
    """Of a character of sentences without secrets."""
    return np.exp(model.evaluate(tokens[:, :-1], tokens[:, 1:], verbose=0))


def exposures(model, secrets):
    """Of each secret."""
    return [exposure(model, f"^the pin of {name} is ", pin) for name, pin in secrets]
