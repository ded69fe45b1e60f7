"""Cut a BERT in half, and distil hidden states and attention into it

A KerasHub BERT of four layers learns which operation a line of a worked solution
computes, its numbers hidden. Its student has two. This example cuts the student from
its teacher (DistilBERT's way, arXiv 1910.01108) or starts it at random, and trains it
with knowledge distillation (KD) alone, with the hidden states and the attention of a
map of layers (TinyBERT, Jiao et al., arXiv 1909.10351), and with both. It prints how
often each student agrees with its teacher before any training, and a table over three
seeds, and draws a picture.

It needs KerasHub and the text (`KERAS_DTKD_TEXT`, GSM8K's `train.jsonl.gz`), and
takes about ten minutes on one processor core with PyTorch, which compiles nothing;
with `KERAS_DTKD_QUICK=1`, a smoke run, one minute. Finished runs are kept in
`small_bert.jsonl`: start again, and it goes on. Files go to the current folder, or to
`KERAS_DTKD_OUT`.
"""

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import keras_hub
import numpy as np

from keras_dtkd import Distiller, losses, students

# The student's layer, and the teacher's that it follows: each second one.
LAYERS = [("transformer_layer_0", "transformer_layer_1")]
LAYERS += [("transformer_layer_1", "transformer_layer_3")]


def distill(teacher, student, *inner_losses):
    """KD, and TinyBERT's losses on inner layers next to it."""
    kd = losses.KD(temperature=2.0, weight=0.9)
    return Distiller(teacher, student, [kd, *inner_losses], task_weight=0.1)


def new_losses(arm):
    hidden = losses.HiddenStates(LAYERS, weight=0.1)
    scores = [(f"{small}:scores", f"{large}:scores") for small, large in LAYERS]
    attention = losses.AttentionMaps(scores, weight=0.1)
    return {
        "KD": [],
        "KD + hidden states": [hidden],
        "KD + attention": [attention],
        "KD + both": [hidden, attention],
    }[arm]


# %% [markdown]
# ## The text
# Lines of worked solutions of GSM8K (Cobbe et al., arXiv 2110.14168): does a line add,
# subtract, multiply or divide? Its numbers and signs are hidden, as in "natalia sold #
# clips in may", which divides. Short lines are padded.

# %%
import gzip
import json
import re
from collections import Counter
from pathlib import Path

QUICK = os.environ.get("KERAS_DTKD_QUICK") == "1"
LENGTH, TOKENS, BATCH = 25, 2000, 50
NUM_TRAIN, NUM_TEACHER, NUM_TEST = (100, 200, 100) if QUICK else (1000, 8000, 1000)
TEACHER_EPOCHS, EPOCHS = (1, 2) if QUICK else (5, 8)
SEEDS = range(1) if QUICK else range(3)
SIGNS = "+-*/"


def read_lines(path):
    """Lists of words, and the number of the sign that each line computes with."""
    lines = []
    with gzip.open(path, "rt", encoding="utf-8") as file:
        solutions = [json.loads(row)["answer"] for row in file]
    for line in "\n".join(solutions).split("\n"):
        # A calculation is noted as in `<<48/2=24>>`.
        notes = re.findall(r"<<(.*?)=.*?>>", line)
        signs = set(re.findall(r"(?<=[\d)%.])[-+*/]", "".join(notes)))
        if len(notes) != 1 or len(signs) != 1:
            continue
        text = re.sub(r"<<.*?>>|[^a-z' ]|\bx\b", "#", line.lower())
        words = re.sub(r"(# *)+", " # ", text).split()
        if len(words) >= 5:
            lines.append((words[: LENGTH - 1], SIGNS.index(signs.pop())))
    return lines


lines = read_lines(
    os.environ.get("KERAS_DTKD_TEXT", "../shared/data/gsm8k/train.jsonl.gz")
)
np.random.default_rng(0).shuffle(lines)
counts = Counter(word for words, _ in lines[NUM_TEST:] for word in words)
# 0 is padding, 1 a word that is too rare, 2 the first token, which BERT classifies by.
ids = {word: 3 + i for i, (word, _) in enumerate(counts.most_common(TOKENS - 3))}


def to_arrays(some):
    tokens = np.zeros((len(some), LENGTH), "int32")
    for row, (words, _) in zip(tokens, some, strict=True):
        row[: len(words) + 1] = [2, *(ids.get(word, 1) for word in words)]
    x = {
        "token_ids": tokens,
        "segment_ids": np.zeros_like(tokens),
        "padding_mask": (tokens > 0).astype("int32"),
    }
    return x, np.array([sign for _, sign in some])


test = to_arrays(lines[:NUM_TEST])
train = to_arrays(lines[NUM_TEST : NUM_TEST + NUM_TRAIN])
teacher_train = to_arrays(lines[NUM_TEST : NUM_TEST + NUM_TEACHER])
print(f"{len(teacher_train[1])} lines for the teacher, {len(train[1])} of them for")
print(f"the students; most frequent sign in the test: {np.bincount(test[1]).max()}")
print(f"of {len(test[1])}.\n")

# %% [markdown]
# ## The models


# %%
def new_model(num_layers):
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=TOKENS,
        num_layers=num_layers,
        num_heads=4,
        hidden_dim=64,
        intermediate_dim=128,
        max_sequence_length=LENGTH,
    )
    return compiled(keras_hub.models.BertTextClassifier(backbone, len(SIGNS)))


def compiled(model):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    return model


def plain(model):
    """The same layers in a model of Keras's own: KerasHub's `fit` does not shuffle."""
    return compiled(keras.Model(model.input, model.output))


def logits(model, x):
    return model.predict(x, batch_size=100, verbose=0)


def measure(student):
    """Accuracy, and agreement with the teacher, on the test lines, in percent."""
    # One model for all: each new one would be compiled.
    evaluator.set_weights(student.get_weights())
    choices = logits(evaluator, test[0]).argmax(-1)
    accuracy, agreement = choices == test[1], choices == teacher_choices
    return {"accuracy": 100 * accuracy.mean(), "agreement": 100 * agreement.mean()}


OUT = Path(os.environ.get("KERAS_DTKD_OUT", "."))
OUT.mkdir(parents=True, exist_ok=True)
keras.utils.set_random_seed(0)
teacher, evaluator = new_model(4), new_model(2)
saved = OUT / "small_bert_teacher.weights.h5"
if saved.exists() and not QUICK:
    teacher.load_weights(saved)
else:
    options = {"batch_size": BATCH, "epochs": TEACHER_EPOCHS, "verbose": 0}
    plain(teacher).fit(*teacher_train, **options)
    if not QUICK:
        teacher.save_weights(saved)
teacher_choices = logits(teacher, test[0]).argmax(-1)
teacher_accuracy = 100 * (teacher_choices == test[1]).mean()

# %% [markdown]
# ## The runs

# %%
import time

RECORDS = OUT / f"small_bert{'_quick' if QUICK else ''}.jsonl"
if QUICK:
    RECORDS.unlink(missing_ok=True)
finished = RECORDS.read_text().splitlines() if RECORDS.exists() else []
known = {tuple(r["key"]): r for r in map(json.loads, finished)}
ARMS = "student alone", "KD", "KD + hidden states", "KD + attention", "KD + both"
STARTS = "random", "cut"


def new_student(start):
    if start == "random":
        return new_model(2)
    return compiled(students.from_layers(teacher, every=2))


def run(arm, start, seed):
    """One student, unless it is in the file. Returns its record."""
    key = arm, start, seed
    if key in known:
        return known[key]
    keras.utils.set_random_seed(seed)
    student = new_student(start)
    before, begin = measure(student), time.perf_counter()
    model = plain(student)
    if arm != "student alone":
        model = distill(teacher, student, *new_losses(arm))
    model.fit(*train, batch_size=BATCH, epochs=EPOCHS, verbose=0)
    seconds = time.perf_counter() - begin
    record = {"key": key, "seconds": seconds, "before": before, **measure(student)}
    known[key] = record
    with RECORDS.open("a") as file:
        file.write(json.dumps(record) + "\n")
    return record


results = {
    (arm, start): [run(arm, start, seed) for seed in SEEDS]
    for start in STARTS
    for arm in ARMS
}

# %% [markdown]
# ## The table
# In percent of the test lines, mean ± standard deviation over seeds.

# %%
smoke = "\nSMOKE RUN: the figures are meaningless." if QUICK else ""
backend = keras.config.backend()
print(f"Teacher's test accuracy: {teacher_accuracy:.1f} %. {backend}.{smoke}")


def mean_and_std(values):
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=len(values) > 1):.1f}"


for start in STARTS:
    before = [record["before"]["agreement"] for record in results["KD", start]]
    print(f"Agreement before any training, {start}: {mean_and_std(before)} %")
print("\n| arm | start | accuracy | agreement with the teacher | s |")
print("|---" * 5 + "|")
for (arm, start), records in results.items():
    cells = [
        mean_and_std([record[name] for record in records])
        for name in ("accuracy", "agreement")
    ]
    cells.append(f"{np.mean([record['seconds'] for record in records]):.0f}")
    print(f"| {arm} | {start} | {' | '.join(cells)} |")

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(8, 3.8), layout="constrained")
for number, start in enumerate(STARTS):
    for row, arm in enumerate(ARMS):
        values = [record["accuracy"] for record in results[arm, start]]
        place = row + 0.3 * number - 0.15
        color = ("#8d99a6", "#2a6f97")[number]
        label = f"{start} start" if row == 0 else None
        axes.plot(values, np.full(len(values), place), "o", ms=5, color=color)
        mean = [np.mean(values)] * 2
        ends = [place - 0.12, place + 0.12]
        axes.plot(mean, ends, lw=2, color=color, label=label)
axes.axvline(teacher_accuracy, color="0.6", lw=0.8, ls=":")
axes.set(
    title=f"{'SMOKE RUN. ' * QUICK}Test accuracy, %; dotted: the teacher",
    yticks=range(len(ARMS)),
    yticklabels=ARMS,
    ylim=(len(ARMS) - 0.5, -0.5),
)
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False)
figure.savefig(OUT / "small_bert.png", dpi=120)
plt.close(figure)
if QUICK:
    RECORDS.unlink()
