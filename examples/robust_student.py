"""A robust teacher, and what a student learns of it from clean images

A teacher of handwritten digits is trained against attacks. Its students never see one.
You will see how many of the test's digits they still read under attack: alone, by plain
knowledge distillation (KD), by KD with input gradient alignment (KDIGA; Shao et al.,
arXiv 2110.12072) at three weights, and by its control, which keeps gradients short and
asks no teacher for its own; five seeds, a table and a picture. The images come with
scikit-learn.

It takes ten to twenty minutes on two processor cores; with `KERAS_DTKD_QUICK=1`, a
smoke run, one. A picture goes to the current folder, or to `KERAS_DTKD_OUT`.
"""

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
from keras.layers import Conv2D, Dense, Flatten, MaxPooling2D
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_dtkd import Distiller, attacks
from keras_dtkd.losses import KD, InputGradientAlignment, InputGradientPenalty

QUICK = os.environ.get("KERAS_DTKD_QUICK") == "1"
TEACHER_EPOCHS, EPOCHS = (2, 4) if QUICK else (15, 40)
images, labels = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8, 1).astype("float32") / 16
x_train, x_test, y_train, y_test = train_test_split(
    images, labels, test_size=500, stratify=labels, random_state=0
)

# %% [markdown]
# ## A robust teacher
# Before each epoch all images are moved against the teacher as it is then, by up to
# 0.15 of the range from black to white, and the epoch learns from those.

# %%
keras.utils.set_random_seed(0)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
large = [
    Conv2D(32, 3, padding="same", activation="relu"),
    Conv2D(64, 3, padding="same", activation="relu"),
    MaxPooling2D(),
    Flatten(),
    Dense(128, activation="relu"),
    Dense(10),
]
teacher = keras.Sequential([keras.Input((8, 8, 1)), *large])
teacher.compile("adam", loss)
print("The teacher trains ...", flush=True)
for epoch in range(TEACHER_EPOCHS):
    moved = attacks.pgd(teacher, x_train, y_train, epsilon=0.15, steps=7, seed=epoch)
    teacher.fit(moved, y_train, batch_size=64, verbose=0)

# %% [markdown]
# ## A student that sees clean images only
# Its loss is to change with each pixel as the teacher's does.

# %%
small = [Flatten(), Dense(64, activation="relu"), Dense(10)]
student = keras.Sequential([keras.Input((8, 8, 1)), *small])
student.compile("adam", loss)
losses = [KD(temperature=1.0, weight=0.5), InputGradientAlignment(weight=1.0)]
distiller = Distiller(teacher, student, losses, task_weight=0.5)
distiller.fit(x_train, y_train, batch_size=64, epochs=EPOCHS, verbose=0)
found = attacks.robust_accuracy(student, x_test, y_test, epsilon=0.10, seed=0)
print(f"Clean {found.clean_accuracy:.1%}, robust {found.robust_accuracy:.1%}")

# %% [markdown]
# That is all one needs.
#
# ## What is it worth?
# Eight ways to train that student, each from the same five starts. Adam's own learning
# rate, batches of 64, 40 epochs: nothing here was tuned, and every weight that was
# tried is shown. The attack is PGD with 20 steps from three random starts. No other was
# tried, AutoAttack neither, so what is called robust here is an upper bound.

# %%
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

OUT = Path(os.environ.get("KERAS_DTKD_OUT", "."))
SEEDS = range(2) if QUICK else range(5)
ATTACK = {"steps": 5, "restarts": 1} if QUICK else {"steps": 20, "restarts": 3}
STRONGER = {"steps": 5, "restarts": 2} if QUICK else {"steps": 100, "restarts": 10}
METHODS = {
    "student alone": None,
    "KD": lambda: [],
    "KDIGA 0.1": lambda: [InputGradientAlignment(weight=0.1)],
    "KDIGA 1": lambda: [InputGradientAlignment(weight=1.0)],
    "KDIGA 3": lambda: [InputGradientAlignment(weight=3.0)],
    "penalty 0.1": lambda: [InputGradientPenalty(weight=0.1)],
    "penalty 1": lambda: [InputGradientPenalty(weight=1.0)],
    "penalty 3": lambda: [InputGradientPenalty(weight=3.0)],
}


def measured(model):
    """Accuracy in %: clean, under attack of 0.05, of 0.10."""
    weak, strong = (
        attacks.robust_accuracy(model, x_test, y_test, epsilon, seed=0, **ATTACK)
        for epsilon in (0.05, 0.10)
    )
    accuracies = weak.clean_accuracy, weak.robust_accuracy, strong.robust_accuracy
    return [100 * accuracy for accuracy in accuracies]


def trained(name, seed):
    """A student, and the seconds that it took."""
    keras.utils.set_random_seed(seed)
    small = [Flatten(), Dense(64, activation="relu"), Dense(10)]
    model = student = keras.Sequential([keras.Input((8, 8, 1)), *small])
    student.compile("adam", loss)
    if METHODS[name] is not None:
        soft = [KD(temperature=1.0, weight=0.5), *METHODS[name]()]
        model = Distiller(teacher, student, soft, task_weight=0.5)
    begin = time.perf_counter()
    model.fit(x_train, y_train, batch_size=64, epochs=EPOCHS, verbose=0)
    return student, time.perf_counter() - begin


def run(name, seed):
    """What `measured` finds of a student, and the seconds that its training took."""
    student, seconds = trained(name, seed)
    first.setdefault(name, student)
    values = measured(student)
    print(f"seed {seed}  {name:14}", *(f"{v:6.1f}" for v in values), flush=True)
    return [*values, seconds]


first = {}
teacher_values = measured(teacher)
# Seed by seed, so that a busy hour of the machine is shared by all.
runs = [[run(name, seed) for name in METHODS] for seed in SEEDS]
results = dict(zip(METHODS, np.array(runs).transpose(1, 2, 0), strict=True))


# %%
def with_error(values):
    """Mean and standard error over the seeds."""
    return f"{values.mean():+.1f} ± {values.std(ddof=1) / len(values) ** 0.5:.1f}"


def print_table():
    row = "{:14}{:>14}{:>14}{:>14}{:>9}{:>6}".format
    smoke = "\nA SMOKE RUN: its figures mean nothing." if QUICK else ""
    print(f"\n{keras.config.backend()}, {len(SEEDS)} seeds, mean ± std{smoke}")
    print(row("", "clean %", "PGD .05 %", "PGD .10 %", "seconds", "÷ KD"))
    print(row("teacher", *(f"{v:.1f}" for v in teacher_values), "", ""))
    for name, (*accuracies, seconds) in results.items():
        cells = (f"{v.mean():.1f} ± {v.std(ddof=1):.1f}" for v in accuracies)
        ratio = np.median(seconds / results["KD"][3])
        print(row(name, *cells, f"{seconds.mean():.1f}", f"{ratio:.1f}"))


def print_gains():
    print("\nBeside KD from the same start, mean ± standard error over the seeds:")
    print(f"{'':14}{'clean':>13}{'PGD .10':>14}{'% of the way to the teacher':>30}")
    for name in list(METHODS)[2:]:
        clean, _, robust, _ = results[name] - results["KD"]
        part = 100 * robust / (teacher_values[2] - results["KD"][2])
        cells = with_error(clean), with_error(robust), with_error(part)
        print("{:14}{:>13}{:>14}{:>30}".format(name, *cells))
    print("\nKDIGA less the penalty of its weight, likewise:")
    for weight in ("0.1", "1", "3"):
        gain = results[f"KDIGA {weight}"] - results[f"penalty {weight}"]
        cells = with_error(gain[0]), with_error(gain[2])
        print("{:14}{:>13}{:>14}".format(weight, *cells))


def print_stronger():
    """Where gradients mislead, more steps and more starts would find more."""
    steps, starts = STRONGER["steps"], STRONGER["restarts"]
    print(f"\nPGD .10 with {steps} steps from {starts} starts, seed {SEEDS[0]} alone:")
    for name in ("KD", "KDIGA 1", "penalty 1"):
        found = attacks.robust_accuracy(
            first[name], x_test, y_test, 0.10, seed=1, **STRONGER
        )
        was = results[name][2][0]
        robust = 100 * found.robust_accuracy
        print(f"{name:14}{robust:.1f} %, was {was:.1f}", flush=True)


print_table()
print_gains()
print_stronger()

# %% [markdown]
# KD alone barely moves robustness, though its teacher is robust. KDIGA at weight 1
# goes about half of the way from KD to the teacher, for a fraction of a point of clean
# accuracy. **So does the penalty, nearly**: at 0.1 and 1 the two are a point
# apart or less. The teacher is sure of most clean digits, its own gradients are short,
# and being like them is for the most part being short. KDIGA's step costs more, for the
# teacher's backward pass. What these students gain, one can nearly have without the
# gradients of a robust teacher; that it is so with other data does not follow.
#
# Weight 3 is too much for both: a function that does not change with its inputs has no
# gradient, and has learned nothing. The penalty's students end there, or close by;
# KDIGA's, whose goal is not 0, still read about half of the digits.
#
# The errors are those of the students' starts. There is one teacher and one test, on
# whose 500 images an accuracy of 70 % has a standard error of 2 points.

# %%
RED, GREY = "#c8553d", "#8d99a6"
COLOURS = {"KD": "#3d4852", "KDIGA": "#2a6f97", "penalty": "#5b8c5a"}


def mark(axes, name, place, marker, colour, side):
    axes.plot(*place, marker, color=colour, ms=12, mec="white")
    away = {"xytext": (11 * side, -3), "textcoords": "offset points"}
    axes.annotate(name, place, color=colour, ha="left" if side > 0 else "right", **away)


def draw(axes, names, title):
    for name in names:
        clean, _, robust, _ = results[name]
        colour = COLOURS.get(name.split()[0], GREY)
        axes.plot(clean, robust, "o", color=colour, ms=5, alpha=0.45, mec="none")
        # A method and its control stand on different sides of their marks.
        side = 1 if name.startswith("KD") else -1
        mark(axes, name, (clean.mean(), robust.mean()), "P", colour, side)
    mark(axes, "teacher", (teacher_values[0], teacher_values[2]), "*", RED, -1)
    axes.set(title=title, xlabel="clean accuracy, %")
    axes.margins(0.2)


plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
figure, (all_of_them, near) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
if QUICK:
    figure.suptitle("A SMOKE RUN: its figures mean nothing", color=RED)
title = f"All: a dot a seed ({len(SEEDS)}), a cross their mean"
draw(all_of_them, [name for name in METHODS if not name.endswith(" 0.1")], title)
all_of_them.set_ylabel("accuracy under PGD, ε = 0.10, %")
usual = results["KD"][0].mean()
close = [name for name in METHODS if results[name][0].mean() > usual - 5]
draw(near, close, "Those within five points of KD's clean accuracy")
OUT.mkdir(parents=True, exist_ok=True)
figure.savefig(OUT / "robust_student.png", dpi=150)
print(f"\nThe picture is in {OUT / 'robust_student.png'}.")
