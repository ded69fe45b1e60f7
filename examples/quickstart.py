"""Distill a small network from a large one: handwritten digits

This example trains a student with 23 times fewer parameters than its teacher to
classify digits, on 300 images: alone, by plain knowledge distillation (KD), and by
Dynamic Temperature Knowledge Distillation (DTKD; Wei and Bai, arXiv 2404.12711). It
prints a table over five seeds and draws a picture of the accuracies, the temperatures
that DTKD computes, and the soft labels. The images come with scikit-learn; nothing is
downloaded.

It takes three to five minutes on two processor cores; with `KERAS_DTKD_QUICK=1`, a
smoke run, less than one. Files go to the current folder, or to `KERAS_DTKD_OUT`.
"""

# %%
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
from keras.layers import Conv2D, Dense, Dropout, Flatten, MaxPooling2D
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_dtkd

QUICK = os.environ.get("KERAS_DTKD_QUICK") == "1"
TEACHER_EPOCHS, EPOCHS = (6, 6) if QUICK else (30, 60)
OUT = Path(os.environ.get("KERAS_DTKD_OUT", "."))

# %% [markdown]
# ## The data
# 1,797 digits of 8 by 8 pixels. The teacher is trained on 1,297 of them, the student on
# 300 of those. The other 500 are the test set.

# %%
images, labels = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8, 1).astype("float32") / 16
x_train, x_test, y_train, y_test = train_test_split(
    images, labels, test_size=500, stratify=labels, random_state=0
)
x_few, y_few = x_train[:300], y_train[:300]

# %% [markdown]
# ## The teacher
# Thirty epochs of Adam. The student's learning rate, batch size and epochs, below, are
# the best ones for the student *alone*, by cross-validation within the 1,297 images;
# the teacher's epochs were chosen in the same way. The test set was not used for
# tuning.

# %%
keras.utils.set_random_seed(0)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
large = [
    Conv2D(32, 3, padding="same", activation="relu"),
    Conv2D(64, 3, padding="same", activation="relu"),
    MaxPooling2D(),
    Conv2D(128, 3, padding="same", activation="relu"),
    Flatten(),
    Dropout(0.5),
    Dense(10),
]
teacher = keras.Sequential([keras.Input((8, 8, 1)), *large])
teacher.compile("adam", loss, metrics=["accuracy"])
print("Training the teacher ...", flush=True)
teacher.fit(x_train, y_train, batch_size=64, epochs=TEACHER_EPOCHS, verbose=0)

# %% [markdown]
# ## The student


# %%
def new_student():
    small = [Flatten(), Dense(64, activation="relu"), Dense(10)]
    student = keras.Sequential([keras.Input((8, 8, 1)), *small])
    student.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    return student


student = new_student()
distiller = keras_dtkd.Distiller(teacher, student)
distiller.fit(x_few, y_few, batch_size=30, epochs=EPOCHS, verbose=0)
_, accuracy = student.evaluate(x_test, y_test, verbose=0)
print(f"Student test accuracy: {accuracy:.1%}")
OUT.mkdir(parents=True, exist_ok=True)
student.save(OUT / "student.keras")

# %% [markdown]
# That is all you need. The student is an ordinary Keras model, and loading its file
# requires neither the teacher nor keras_dtkd.

# %%
import time

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import entr, softmax

from keras_dtkd.losses import DTKD, KD


def logits(model):
    """Test logits. `predict` gives the same, but would compile for every student."""
    return keras.ops.convert_to_numpy(model(x_test, training=False))


reloaded = keras.models.load_model(OUT / "student.keras")
np.testing.assert_array_equal(logits(reloaded), logits(student))
print(f"Predictions are equal after reloading {OUT / 'student.keras'}.")

# %% [markdown]
# ## Comparison
# Five methods to train that student on the same 300 images, each with the same five
# seeds. The two terms of DTKD have weights 3 and 1: cross-entropy (CE) plus KD of
# weight 4 is its control. DTKD as published needs a warm-up, the authors' 20 of 240
# epochs, here in proportion; the library's default form of DTKD has that warm-up
# already.

# %%
SEEDS = range(2) if QUICK else range(5)
METHODS = {
    "student alone": lambda s: s,
    "KD": lambda s: keras_dtkd.Distiller(teacher, s, KD(weight=0.9), task_weight=0.1),
    "CE + 4 KD": lambda s: keras_dtkd.Distiller(teacher, s, KD(weight=4.0)),
    "DTKD": lambda s: keras_dtkd.Distiller(teacher, s, DTKD()),
    "DTKD, published": lambda s: keras_dtkd.Distiller(
        teacher, s, DTKD.published(warmup_epochs=EPOCHS / 12)
    ),
}


def run(name, seed):
    """Test accuracy, agreement with the teacher, seconds to train."""
    keras.utils.set_random_seed(seed)
    student = new_student()
    model = METHODS[name](student)
    start = time.perf_counter()
    model.fit(x_few, y_few, batch_size=30, epochs=EPOCHS, verbose=0)
    seconds = time.perf_counter() - start
    predicted = logits(student).argmax(-1)
    accuracy = 100 * (predicted == y_test).mean()
    agreement = 100 * (predicted == teacher_logits.argmax(-1)).mean()
    print(f"seed {seed}  {name:16}{accuracy:5.1f} %{seconds:6.1f} s", flush=True)
    return accuracy, agreement, seconds


teacher_logits = logits(teacher)
teacher_accuracy = 100 * (teacher_logits.argmax(-1) == y_test).mean()
print(f"teacher {teacher_accuracy:.1f} %")
results = {name: np.array([run(name, seed) for seed in SEEDS]).T for name in METHODS}


# %%
def milliseconds(model):
    """Per image of 5,000: the median of five calls of `predict`, after one warm-up."""
    many = np.tile(x_test, (10, 1, 1, 1))
    times = []
    for _ in range(6):
        start = time.perf_counter()
        model.predict(many, batch_size=500, verbose=0)
        times.append(time.perf_counter() - start)
    return 1000 * np.median(times[1:]) / len(many)


def mean_std(values):
    return f"{values.mean():.1f} ± {values.std(ddof=1):.1f}"


def cost(model):
    return f"{model.count_params():,}", f"{milliseconds(model):.4f}"


def print_table():
    row = "{:16}{:>13}{:>14}{:>12}{:>11}{:>9}".format
    smoke = "\nSMOKE RUN: the figures are meaningless." if QUICK else ""
    print(f"\n{keras.config.backend()}, {len(SEEDS)} seeds, mean ± std{smoke}")
    print(row("", "accuracy %", "agreement %", "parameters", "ms/image", "seconds"))
    print(row("teacher", f"{teacher_accuracy:.1f}", "", *cost(teacher), ""))
    student_cost = cost(student)
    for name, (accuracy, agreement, seconds) in results.items():
        cells = mean_std(accuracy), mean_std(agreement), *student_cost
        print(row(name, *cells, f"{seconds.mean():.1f}"))


def print_gain():
    dtkd, alone = results["DTKD"][0], results["student alone"][0]
    gain = dtkd.mean() - alone.mean()
    error = np.hypot(dtkd.std(ddof=1), alone.std(ddof=1)) / np.sqrt(len(SEEDS))
    points = f"{gain:+.2f} points, standard error {error:.2f}"
    print(f"\nAccuracy of DTKD minus that of the student alone: {points}.")


print_table()
print_gain()

# %% [markdown]
# ## Temperatures and soft labels
# A temperature above 1 softens a network's probabilities: the classes that it did not
# choose become visible. DTKD computes one for the teacher and one for the student, on
# each digit anew: the sharper of the two gets the higher one, so that they are compared
# at equal sharpness. The two always add up to 8, and stay between 2 and 6.
#
# Six test digits show this: three on which the teacher is sure, and three on which it
# hesitates. One more student is trained, and after each epoch the temperatures of these
# six are noted.


# %%
def three_digits(order):
    """The first three indices that show different digits."""
    _, first = np.unique(y_test[order], return_index=True)
    return order[np.sort(first)[:3]]


teacher_probs = softmax(teacher_logits / 4, axis=-1)
# The teacher's entropy is low on easy images and high on hard ones.
order = np.argsort(entr(teacher_probs).sum(-1))
easy, hard = three_digits(order), three_digits(order[::-1])[::-1]
six = [*easy, *hard]

keras.utils.set_random_seed(SEEDS[0])
student = new_student()
distiller = keras_dtkd.Distiller(teacher, student, DTKD(warmup_epochs=EPOCHS / 12))
dtkd_temperature = distiller.distillation_losses["dtkd"].temperature
teacher_temperatures = []


def note_temperatures(epoch, logs):
    pair = dtkd_temperature(logits(student)[six], teacher_logits[six])
    teacher_temperatures.append(keras.ops.convert_to_numpy(pair.teacher)[:, 0])


note = keras.callbacks.LambdaCallback(on_epoch_end=note_temperatures)
distiller.fit(x_few, y_few, batch_size=30, epochs=EPOCHS, callbacks=[note], verbose=0)
student_logits = logits(student)
student_probs = softmax(student_logits / 4, axis=-1)


# %%
RED, BLUE, GREY = "#c8553d", "#2a6f97", "#8d99a6"
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})


def draw_digit(axes, box, index):
    inset = axes.inset_axes(box)
    inset.imshow(x_test[index, ..., 0], cmap="gray_r")
    inset.axis("off")


def draw_accuracies(axes):
    for row, (name, (accuracy, _, _)) in enumerate(results.items()):
        color = BLUE if name == "DTKD" else GREY
        mean, std = accuracy.mean(), accuracy.std(ddof=1)
        axes.plot([mean - std, mean + std], [row, row], color=color, lw=9, alpha=0.35)
        axes.plot(accuracy, np.full(len(accuracy), row), "o", color=color, mec="white")
        axes.plot([mean, mean], [row - 0.2, row + 0.2], color=color, lw=2.5)
        axes.text(mean, row - 0.28, mean_std(accuracy), ha="center", color=color)
    axes.axvline(teacher_accuracy, color=RED, ls="--")
    text = f"teacher {teacher_accuracy:.1f} "
    axes.text(teacher_accuracy, -0.75, text, color=RED, ha="right", va="center")
    axes.set(
        title=f"Test accuracy, %: {len(SEEDS)} seeds, mean ± std",
        yticks=range(len(results)),
        yticklabels=results,
        ylim=(len(results) - 0.5, -1),
    )


def draw_temperatures(figure):
    figure.suptitle("Temperature of the teacher on six digits, as training goes on")
    panels = figure.subplots(1, 6, sharey=True)
    for axes, index, values in zip(
        panels, six, np.transpose(teacher_temperatures), strict=True
    ):
        axes.plot(range(1, EPOCHS + 1), values, color=RED, lw=2)
        axes.text(EPOCHS, values[-1] - 0.35, f"{values[-1]:.1f}", color=RED, ha="right")
        for bound in (2, 6):
            axes.axhline(bound, color=GREY, lw=0.8, ls=":")
        axes.axhline(4, color=GREY, lw=0.8)
        axes.set(xlim=(1, EPOCHS), xticks=(1, EPOCHS), ylim=(1.8, 7.6))
        axes.set(yticks=range(2, 7), title="easy" if index in easy else "hard")
        draw_digit(axes, [0.15, 0.78, 0.7, 0.22], index)
    panels[0].set_ylabel("the teacher's (the student's: 8 minus it)")
    for text, y in (("upper bound", 6.08), ("both equal", 4.08), ("lower bound", 2.08)):
        panels[-1].text(1.02 * EPOCHS, y, text, color="dimgrey", fontsize=8, ha="right")
    figure.supxlabel("epoch", fontsize="medium")


def draw_soft_labels(axes, index):
    digits, label = np.arange(10), y_test[index]
    models = ((-0.21, teacher_probs, RED), (0.21, student_probs, BLUE))
    for shift, probs, color in models:
        bars = axes.bar(digits + shift, 100 * probs[index], 0.4, color=color)
        values = [f"{p:.0f}" if p >= 1 else "" for p in 100 * probs[index]]
        axes.bar_label(bars, values, padding=1, fontsize=7, color=color)
    title = f"{'Easy' if index in easy else 'Hard'}: a {label}"
    for name, probs in (("teacher", teacher_probs), ("student", student_probs)):
        if (predicted := probs[index].argmax()) != label:
            title += f"; the {name} takes it for a {predicted}"
    axes.set(xticks=digits, yticks=[], title=title, xlabel="class")
    axes.get_xticklabels()[label].set_fontweight("bold")
    axes.spines["left"].set_visible(False)
    axes.margins(y=0.45)
    lines = ("Probabilities at temperature 4, %", "dimgrey"), ("teacher", RED)
    for row, (text, color) in enumerate((*lines, ("student after DTKD", BLUE))):
        place = {"color": color, "transform": axes.transAxes}
        axes.text(0.02, 0.93 - 0.08 * row, text, **place)
    draw_digit(axes, [0.8, 0.72, 0.18, 0.28], index)


figure = plt.figure(figsize=(13, 8.5), layout="constrained")
if QUICK:
    figure.suptitle("SMOKE RUN: the figures are meaningless", color=RED)
grid = figure.add_gridspec(2, 12, height_ratios=(1.3, 1))
draw_accuracies(figure.add_subplot(grid[0, :5]))
draw_temperatures(figure.add_subfigure(grid[0, 5:]))
for column, index in enumerate([easy[0], hard[0], hard[2]]):
    draw_soft_labels(figure.add_subplot(grid[1, 4 * column : 4 * column + 4]), index)
figure.savefig(OUT / "quickstart.png", dpi=150)
print(f"Saved the picture to {OUT / 'quickstart.png'}.")
