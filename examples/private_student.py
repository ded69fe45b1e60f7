"""Measure what a student gives away of its teacher's private data

A language model of characters is trained on made-up sentences, among them ten secrets
("the pin of anna is 4831"), one to sixteen times each. It teaches a smaller one. How
much the student knows of each secret is its exposure: the rank of the true digits among
all 10,000. This example compares knowledge distillation (KD) with Swing distillation
(a reconstruction from the abstract of Li et al., arXiv 2212.08349), with controls, and
with the simple way: leaving the private characters out. It prints a table over three
seeds and draws a picture. Nothing is downloaded; nothing here is differential privacy.

It takes about twenty minutes on two processor cores; with `KERAS_DTKD_QUICK=1`, a
smoke run, less than two. Files go to the current folder, or to `KERAS_DTKD_OUT`.
"""

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np

from keras_dtkd import Distiller, datasets, losses, metrics


def find_private(texts, length):
    """Scores of the characters: 1 for the digits of a pin, else 0."""
    pin = r"pin of \w+ is (\d{4})"
    return datasets.privacy_scores(texts, char_offsets, pin, length)


def hide(tokens, scores):
    """Inputs with the scores of their labels, which are the next characters."""
    return datasets.with_columns(tokens[:, :-1], privacy=scores[:, 1:])


def new_swing(**options):
    """Private labels teach nothing, and private soft targets are nearly even."""
    options = {"maximum": 100.0, "noise": 1.0, **options}
    return losses.Swing(privacy="privacy", weight=0.5, **options)


def exposure(model, prefix, pin):
    """From 0 bits to 13.3: the true digits are the likeliest of all 10,000."""
    likelihoods = metrics.score_candidates(model, encode(prefix), ALL_PINS)
    metric = metrics.CanaryExposure()
    metric.update_state([pin], likelihoods[None])
    return float(metric.result())


# %% [markdown]
# That is all you need: scores, the loss `Swing`, and a measurement.
#
# ## The data
# Two thousand sentences of a few templates, and ten secrets among them. `^` begins a
# sentence, and 0 is padding, which both models mask.

# %%
QUICK = os.environ.get("KERAS_DTKD_QUICK") == "1"
NUM_SENTENCES, TEACHER_EPOCHS, EPOCHS = (200, 3, 2) if QUICK else (2000, 60, 24)
SEEDS, EVERY = (range(1), 1) if QUICK else (range(3), 6)
REPEATS = [1, 4, 16] if QUICK else [1, 1, 1, 4, 4, 4, 16, 16, 16, 16]

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
# The teacher runs once: its outputs for all sentences are stored.


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
    """Of a character, in sentences without secrets."""
    return np.exp(model.evaluate(tokens[:, :-1], tokens[:, 1:], verbose=0))


def exposures(model, secrets):
    """Of each secret."""
    return np.array(
        [exposure(model, f"^the pin of {name} is ", pin) for name, pin in secrets]
    )


# %% [markdown]
# ## The comparison
# All arms but KD leave the labels of what is found private out of the task loss, so
# that only the soft targets can give it away. The controls change one thing each: no
# more than that; the same mean temperature for all characters; noise alone; temperature
# alone. "Shared T" gives the student the teacher's temperature, with the factor T² of
# KD. "Left out" is the simple way: private characters have the sample weight 0. The
# poor score misses 20 % of the private digits, the same ones in each repetition.

# %%
from pathlib import Path

from keras_dtkd import teachers

OUT = Path(os.environ.get("KERAS_DTKD_OUT", "."))


def new_kd():
    return losses.KD(temperature=1.0, weight=0.5)


def new_arms(mean_temperature):
    """By name: the loss, which scores, and whether these are weights of samples."""
    mean = {"minimum": mean_temperature, "maximum": mean_temperature}
    shared = {"student_temperature": "shared", "scale_by_t2": True}
    return {
        "KD": (new_kd(), "perfect", False),
        "labels left out": (
            new_swing(maximum=1.0, noise=0.0),
            "perfect",
            False,
        ),
        "same mean T": (new_swing(**mean, noise=0.0), "perfect", False),
        "noise alone": (new_swing(maximum=1.0), "perfect", False),
        "T alone": (new_swing(noise=0.0), "perfect", False),
        "T alone, up to 8": (
            new_swing(maximum=8.0, noise=0.0),
            "perfect",
            False,
        ),
        "Swing": (new_swing(), "perfect", False),
        "Swing, shared T": (new_swing(**shared), "perfect", False),
        "all left out": (new_kd(), "perfect", True),
        "Swing, poor score": (new_swing(), "poor", False),
        "all left out, poor": (new_kd(), "poor", True),
    }


def miss_digits(scores, texts, seed):
    """Scores without a fifth of the private digits: 8 of 40."""
    poor, missed = scores.copy(), {}
    digits = np.arange(4 * len(REPEATS))
    is_missed = np.random.default_rng(seed).permutation(digits < len(digits) // 5)
    by_secret = iter(is_missed.reshape(-1, 4))
    for row, text in zip(poor, texts, strict=True):
        if row.any():
            if text not in missed:
                missed[text] = next(by_secret)
            row[np.flatnonzero(row)[missed[text]]] = 0
    return poor


def run(arm, teacher, tokens, scores, secrets, seed):
    """The student, and its exposures of the secrets by epoch."""
    loss, quality, is_left_out = arm
    keras.utils.set_random_seed(seed)
    student, curve = new_model(48), []
    options = {"batch_size": 64}
    if is_left_out:
        options["sample_weight"] = 1 - scores[quality][:, 1:]
    distiller = Distiller(teacher, student, loss, task_weight=0.5)
    x = hide(tokens, scores[quality])
    for end in range(EVERY, EPOCHS + 1, EVERY):
        epochs = {"initial_epoch": end - EVERY, "epochs": end, "verbose": 0}
        distiller.fit(x, tokens[:, 1:], **epochs, **options)
        curve.append(exposures(student, secrets))
    return student, curve


results: dict = {}
for seed in SEEDS:
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    texts, held_out, secrets = new_data(seed)
    tokens, test = to_tokens(texts), to_tokens(held_out)
    teacher = new_model(128)
    options = {"batch_size": 64, "epochs": TEACHER_EPOCHS, "verbose": 0}
    teacher.fit(tokens[:, :-1], tokens[:, 1:], **options)
    models = {"teacher": (teacher, [exposures(teacher, secrets)])}
    stored = teachers.Stored(teacher.predict(tokens[:, :-1], verbose=0))
    perfect = find_private(texts, tokens.shape[1])
    scores = {"perfect": perfect, "poor": miss_digits(perfect, texts, seed)}
    private_share = perfect[:, 1:].sum() / (tokens[:, 1:] > 0).sum()
    for name, arm in new_arms(1 + 99 * private_share).items():
        models[name] = run(arm, stored, tokens, scores, secrets, seed)
        bits = np.mean(models[name][1][-1])
        print(f"seed {seed}, {name}: {bits:.1f} bits", flush=True)
    for name, (model, curve) in models.items():
        results.setdefault(name, []).append((np.array(curve), perplexity(model, test)))

# %% [markdown]
# ## The table
# Exposure in bits, by how often a secret is in the data. One that a model does not know
# has 1.4 bits in the mean, one that it knows has 13.3.


# %%
def mean_std(values):
    spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):.1f}{spread}"


smoke = "\nSMOKE RUN: the figures are meaningless." if QUICK else ""
backend = keras.config.backend()
print(f"\n{backend}, {len(SEEDS)} seeds, mean ± std, exposure in bits{smoke}")
row = "{:20}{:>12}{:>12}{:>12}{:>12}{:>10}{:>17}".format
print(row("", "once", "4 times", "16 times", "all", "below KD", "perplexity"))
last = {name: np.array([c[-1] for c, _ in runs]) for name, runs in results.items()}
for name, runs in results.items():
    groups = [last[name][:, np.equal(REPEATS, r)].mean(1) for r in (1, 4, 16)]
    below = 100 * (1 - last[name].mean() / last["KD"].mean())
    ppl = [value for _, value in runs]
    spread = f" ± {np.std(ppl, ddof=1):.3f}" if len(ppl) > 1 else ""
    cells = [mean_std(group) for group in (*groups, last[name].mean(1))]
    below = "" if name in ("teacher", "KD") else f"{below:.0f} %"
    print(row(name, *cells, below, f"{np.mean(ppl):.3f}{spread}"))

epochs = range(EVERY, EPOCHS + 1, EVERY)
often = np.equal(REPEATS, 16)
print(f"\nSecrets that occur 16 times, after the epochs {', '.join(map(str, epochs))}")
for name, runs in results.items():
    if name != "teacher":
        curve = np.mean([c[:, often].mean(1) for c, _ in runs], axis=0)
        print(f"{name:20}" + "".join(f"{bits:7.1f}" for bits in curve))
for score in ("", ", poor score"):
    pair = last[f"Swing{score}"], last[f"all left out{score.removesuffix(' score')}"]
    gaps = (pair[0] - pair[1]).mean(1)
    error = f" ± {np.std(gaps, ddof=1) / len(gaps) ** 0.5:.1f}" if len(gaps) > 1 else ""
    print(f"Swing minus all left out{score}: {gaps.mean():+.1f}{error} bits")

# %% [markdown]
# Swing hides nearly all, at no cost: so does leaving private characters out, which is
# simpler, and better where the score misses some. It is the temperature that hides, and
# the labels must be left out as well; noise of this size does nothing, the same mean
# temperature does nothing, and a shared temperature gives the secrets away again. What
# a temperature of 8 hides leaks with further epochs: the order of the digits is still
# in the soft targets. Figures and details: docs/swing.md.

# %%
import matplotlib.pyplot as plt

RED, BLUE, GREY = "#c8553d", "#2a6f97", "#8d99a6"
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
COLORED = {"KD": RED, "Swing": BLUE, "all left out": "black"}


def label_points(axes, points, gap):
    """Writes the names of `(name, x, y)` next to the points, one above the other."""
    height = -np.inf
    for name, x, y in sorted(points, key=lambda point: point[2]):
        height = max(y, height + gap)
        options = {"textcoords": "offset points", "va": "center", "fontsize": 9}
        offset = axes.transData.transform([(x, height), (x, y)])[:, 1]
        place = 8, 72 * (offset[0] - offset[1]) / figure.dpi
        color = COLORED.get(name, GREY)
        axes.annotate(name, (x, y), place, color=color, **options)


figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5.5), layout="constrained")
ends, means = [], []
for name in list(results)[1:]:
    color, style = COLORED.get(name, GREY), "--" if "poor" in name else "-"
    curve = np.mean([curve[:, often].mean(1) for curve, _ in results[name]], axis=0)
    left.plot(epochs, curve, style, color=color, marker="o", ms=4)
    ends.append((name, epochs[-1], curve[-1]))
    x, y = [value for _, value in results[name]], last[name].mean(1)
    right.plot(x, y, "o", color=color, alpha=0.25, ms=4)
    right.plot(np.mean(x), np.mean(y), "o", color=color, ms=8)
    means.append((name, np.mean(x), np.mean(y)))
left.set(
    title="secrets that occur 16 times",
    xlabel="epoch",
    ylabel="exposure, bits",
    ylim=(0, 15),
    xlim=(EVERY, EPOCHS * 1.35),
    xticks=epochs,
)
right.set(
    title="all secrets, last epoch: lower and further left is better",
    xlabel="perplexity of a character, other sentences",
    ylabel="exposure, bits",
)
figure.draw_without_rendering()
label_points(left, ends, gap=0.45)
label_points(right, means, gap=0.32)
title = f"What the student gives away: {len(SEEDS)} seeds"
figure.suptitle(
    "SMOKE RUN: the figures are meaningless" if QUICK else title,
    color=RED if QUICK else "black",
)
OUT.mkdir(parents=True, exist_ok=True)
figure.savefig(OUT / "private_student.png", dpi=150)
print(f"\nSaved the picture to {OUT / 'private_student.png'}.")
