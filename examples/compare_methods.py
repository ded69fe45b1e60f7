"""Compare all methods with their controls on handwritten digits

This example trains a student of 1,210 parameters on 300 labeled images with a teacher,
by every method of keras_dtkd for one label per image, with the factors of its paper
(DTKD: Wei and Bai, arXiv 2404.12711; the README names the others). It prints a table
over eight seeds and draws a picture of it. It takes 20 minutes on two processor cores
with JAX, the fastest here; `--quick`, a smoke run, three minutes with JAX. If it is
interrupted, the same command resumes it. Files go to the current folder, or to
`--output`.
"""

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras

from keras_dtkd import Distiller, __version__, losses, teachers, temperatures, views

# %% [markdown]
# ## The methods
# Each function returns the model to train for a compiled student. The teacher is
# defined below.


# %%
def kd(student, loss=losses.KD, weight=0.9, **kwargs):
    """The common recipe: task weight 0.1, distillation weight 0.9."""
    return Distiller(teacher, student, loss(weight=weight, **kwargs), task_weight=0.1)


def with_view(student, view, loss, **kwargs):
    """The same loss on the unchanged batch and on a view of it."""
    pair = {"plain": loss(**kwargs), "viewed": loss(view=view.name, **kwargs)}
    return Distiller(teacher, student, pair, views=view)


METHODS = {
    "student alone": lambda s: s,
    "KD": lambda s: kd(s, temperature=4.0),
    "CTKD": lambda s: kd(s, temperature=temperatures.Curriculum()),
    "CSWT": lambda s: kd(s, temperature=temperatures.CosineSimilarity()),
    "temperature falls": lambda s: kd(s, temperature=temperatures.Scheduled(falling)),
    "generalized JSD": lambda s: kd(s, losses.GeneralizedJSD, temperature=4.0),
    "total variation": lambda s: kd(s, losses.TotalVariation),
    "0.1 CE + 9 KD": lambda s: kd(s, weight=9.0, temperature=2.0),
    "standardized": lambda s: kd(
        s, weight=9.0, temperature=temperatures.Standardized(2.0)
    ),
    "CE + 4 KD": lambda s: Distiller(teacher, s, losses.KD(weight=4.0)),
    "DTKD": lambda s: Distiller(teacher, s, losses.DTKD()),
    "DTKD, published": lambda s: Distiller(
        teacher, s, losses.DTKD.published(warmup_epochs=EPOCHS / 12)
    ),
    "DIST": lambda s: Distiller(teacher, s, losses.DIST(weight=2.0)),
    "CSKD": lambda s: Distiller(teacher, s, losses.CSKD()),
    "R2KD": lambda s: Distiller(teacher, s, losses.R2KD()),
    "R2KD, pruned": lambda s: Distiller(with_pruned, s, losses.R2KD()),
    "CE + 4 KD, mixup": lambda s: with_view(s, views.Mixup(), losses.KD, weight=4.0),
    "R2KD, mixup": lambda s: with_view(s, views.Mixup(), losses.R2KD),
    "CE + 4 KD, cutmix": lambda s: with_view(s, views.CutMix(), losses.KD, weight=4.0),
    "R2KD, cutmix": lambda s: with_view(s, views.CutMix(), losses.R2KD),
    "CE + 9 KD": lambda s: Distiller(teacher, s, losses.KD(weight=9.0)),
    "DKD": lambda s: Distiller(teacher, s, losses.DKD(warmup_epochs=EPOCHS / 12)),
    "logit MSE": lambda s: Distiller(teacher, s, losses.LogitMSE(), task_weight=0.0),
    "CKD": lambda s: Distiller(teacher, s, losses.CKD(), task_weight=0.0),
    "CKD, calibrated": lambda s: Distiller(teacher, s, losses.CKD(), task_weight=0.0),
}
AFTER_TRAINING = {
    "CKD, calibrated": lambda s: losses.calibrate_output_bias(
        s, x_few, losses.CKD().optimal_logits(logits(teacher, x_few), y_few)
    )
}

# %% [markdown]
# A control has the same task weight, factors of the same sum, and the same views: it
# differs only in the method's own idea. Logit MSE, the control of CKD, does not use the
# labels as CKD does. The warm-ups of 20 epochs were designed for 240 epochs, and are
# shortened in proportion.

# %%
CONTROLS = {
    "KD": "student alone",
    **dict.fromkeys(["CTKD", "CSWT", "temperature falls"], "KD"),
    **dict.fromkeys(["generalized JSD", "total variation"], "KD"),
    "standardized": "0.1 CE + 9 KD",
    **dict.fromkeys(["DTKD", "DTKD, published", "DIST", "CSKD", "R2KD"], "CE + 4 KD"),
    "R2KD, pruned": "R2KD",
    "R2KD, mixup": "CE + 4 KD, mixup",
    "R2KD, cutmix": "CE + 4 KD, cutmix",
    "DKD": "CE + 9 KD",
    **dict.fromkeys(["CKD", "CKD, calibrated"], "logit MSE"),
}

# %% [markdown]
# ## Protocol
# Each method gets the learning rate with the best mean accuracy on 500 validation
# images, over three seeds that are not used for the test. Three learning rates are
# tried, and more until the best lies between two others. Then a student is trained with
# each of the eight test seeds, and evaluated on the test images after the last epoch.
# No seed is dropped. Batch size and epochs are the same for all methods.

# %%
import argparse
from pathlib import Path

QUICK = os.environ.get("KERAS_DTKD_QUICK") == "1"
parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--quick", action="store_true", default=QUICK, help="a smoke run")
parser.add_argument(
    "--output",
    type=Path,
    default=Path(os.environ.get("KERAS_DTKD_OUT", ".")),
    help="folder for the runs, the teacher, the table and the picture",
)
parser.add_argument("--seeds", type=int, help="number of seeds, at least 2; default 8")
parser.add_argument(
    "--methods", nargs="+", choices=METHODS, metavar="NAME", help=", ".join(METHODS)
)
# A notebook has no command line.
options = parser.parse_args(None if "__file__" in globals() else [])
QUICK, OUT = options.quick, options.output
SEEDS = range(options.seeds or (2 if QUICK else 8))
if len(SEEDS) < 2:
    parser.error("--seeds must be at least 2, for a standard deviation.")
SELECTED = options.methods or list(METHODS)
VALIDATION_SEEDS = [1000] if QUICK else [1000, 1001, 1002]
RATES = [0.01, 0.03] if QUICK else [0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3]
TEACHER_EPOCHS, EPOCHS = (2, 6) if QUICK else (30, 60)
BATCH_SIZE = 30
NAME = "compare_methods_quick" if QUICK else "compare_methods"

# %% [markdown]
# ## The data, the teacher and the student
# The student is trained on 300 of the teacher's 1,297 training images. The 500
# validation images are others of these, so the teacher was trained on them too.

# %%
from keras.layers import Conv2D, Dense, Dropout, Flatten, MaxPooling2D
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

images, labels = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8, 1).astype("float32") / 16
x_train, x_test, y_train, y_test = train_test_split(
    images, labels, test_size=500, stratify=labels, random_state=0
)
x_few, y_few = x_train[:300], y_train[:300]
SPLITS = {"validation": (x_train[300:800], y_train[300:800]), "test": (x_test, y_test)}


def load_or_train_teacher():
    """Trained once and saved: a resumed comparison must use the same teacher."""
    path = OUT / f"{NAME}_teacher.keras"
    if not path.exists():
        print("Training the teacher ...", flush=True)
        keras.utils.set_random_seed(0)
        large = [
            Conv2D(32, 3, padding="same", activation="relu"),
            Conv2D(64, 3, padding="same", activation="relu"),
            MaxPooling2D(),
            Conv2D(128, 3, padding="same", activation="relu"),
            Flatten(),
            Dropout(0.5),
            Dense(10),
        ]
        model = keras.Sequential([keras.Input((8, 8, 1)), *large])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss)
        model.fit(x_train, y_train, batch_size=64, epochs=TEACHER_EPOCHS, verbose=0)
        partial = OUT / f"{NAME}_unfinished.keras"
        model.save(partial)
        os.replace(partial, path)
    return keras.models.load_model(path)


def new_student(learning_rate):
    small = [Flatten(), Dense(16, activation="relu"), Dense(10)]
    student = keras.Sequential([keras.Input((8, 8, 1)), *small])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    student.compile(keras.optimizers.Adam(learning_rate), loss)
    return student


def logits(model, x):
    """`predict` gives the same, but would compile for every student."""
    return keras.ops.convert_to_numpy(model(x, training=False))


OUT.mkdir(parents=True, exist_ok=True)
teacher = load_or_train_teacher()
with_pruned = teachers.Ensemble([teacher, teachers.Pruned(teacher, 0.1)], [0.7, 0.3])
falling = keras.optimizers.schedules.CosineDecay(8.0, EPOCHS, alpha=0.25)

# %% [markdown]
# ## The runs
# Each finished run is a line of a file, so that nothing is trained twice. The first
# line contains the settings: runs with other settings are not comparable. If you change
# a method, give it a new name.

# %%
import json
import sys
import time

import numpy as np

FILE = OUT / f"{NAME}.jsonl"
KEYS = ("method", "learning_rate", "split", "seed")
SETTINGS = {
    "backend": keras.config.backend(),
    "keras": keras.__version__,
    "keras_dtkd": __version__,
    "teacher": teachers.model_fingerprint(teacher),
    "labelled_images": len(x_few),
    "batch_size": BATCH_SIZE,
    "epochs": EPOCHS,
}


def append(line):
    """Appends a line in one write and flushes it to disk."""
    with FILE.open("ab", buffering=0) as file:
        file.write(json.dumps(line).encode() + b"\n")
        os.fsync(file.fileno())


def finished_runs():
    """The runs in the file, by the values of `KEYS`."""
    content = FILE.read_bytes() if FILE.exists() else b""
    # A last line without a newline was interrupted.
    complete = content[: content.rfind(b"\n") + 1]
    FILE.touch()
    os.truncate(FILE, len(complete))
    if not complete:
        append({"settings": SETTINGS})
        return {}
    header, *runs = map(json.loads, complete.splitlines())
    saved = header["settings"]
    changed = [key for key in SETTINGS if saved.get(key) != SETTINGS[key]]
    if changed:
        changes = [f"{key} {saved.get(key)}, now {SETTINGS[key]}" for key in changed]
        sys.exit(
            f"{FILE} has other settings: {', '.join(changes)}. "
            "Pass another --output, or remove the file."
        )
    return {tuple(run[key] for key in KEYS): run for run in runs}


def run(*key):
    """Trains one student, unless that run is finished. Returns its line of the file."""
    if key in finished:
        return finished[key]
    name, learning_rate, split, seed = key
    # Free the memory of the last student's compiled functions.
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    student = new_student(learning_rate)
    model = METHODS[name](student)
    start = time.perf_counter()
    model.fit(x_few, y_few, batch_size=BATCH_SIZE, epochs=EPOCHS, verbose=0)
    AFTER_TRAINING.get(name, lambda student: None)(student)
    seconds = time.perf_counter() - start
    x, y = SPLITS[split]
    is_correct = logits(student, x).argmax(-1) == y
    values = {
        "accuracy": round(100 * is_correct.mean(), 2),
        "seconds": round(seconds, 2),
    }
    finished[key] = {**dict(zip(KEYS, key, strict=True)), **values}
    append(finished[key])
    return finished[key]


def runs(name, rate, split, seeds):
    for seed in seeds:
        yield run(name, rate, split, seed)
        progress.add(1)


def best_rate(name):
    """By mean accuracy on the validation split; the smallest one in a tie."""
    means = {}
    candidates = RATES[:2] if QUICK else RATES[2:5]
    while candidates:
        for rate in candidates:
            validation_runs = runs(name, rate, "validation", VALIDATION_SEEDS)
            means[rate] = np.mean([run["accuracy"] for run in validation_runs])
        best = max(sorted(means), key=means.get)
        index = RATES.index(best)
        neighbors = RATES[max(index - 1, 0) : index + 2]
        candidates = [rate for rate in neighbors if rate not in means]
        progress.target += len(candidates) * len(VALIDATION_SEEDS)
    return best


def compare(name):
    """The selected learning rate, and the test runs with it."""
    rate = best_rate(name)
    return rate, list(runs(name, rate, "test", SEEDS))


finished = finished_runs()
runs_per_method = (2 if QUICK else 3) * len(VALIDATION_SEEDS) + len(SEEDS)
progress = keras.utils.Progbar(len(SELECTED) * runs_per_method, unit_name="run")
try:
    compared = {name: compare(name) for name in SELECTED}
except KeyboardInterrupt:
    sys.exit("\nInterrupted. Run the same command again to resume.")

# %% [markdown]
# ## The table
# Differences are paired: between students with the same seed, and so with the same
# initial weights. Seconds are for one training run, including compilation.

# %%
rates = {name: rate for name, (rate, _) in compared.items()}
accuracy = {
    n: np.array([r["accuracy"] for r in runs]) for n, (_, runs) in compared.items()
}
seconds = {
    n: np.mean([r["seconds"] for r in runs]) for n, (_, runs) in compared.items()
}


def difference(name, reference):
    """Mean and standard error of the paired differences; empty without any."""
    if name == reference or not {name, reference} <= accuracy.keys():
        return ""
    d = accuracy[name] - accuracy[reference]
    return f"{d.mean():+.2f} ± {d.std(ddof=1) / np.sqrt(len(d)):.2f}"


def table_rows():
    teacher_accuracy = 100 * (logits(teacher, x_test).argmax(-1) == y_test).mean()
    yield (
        *("method", "accuracy, %", "minus KD", "minus control"),
        *("control", "rate", "s"),
    )
    yield ("---",) * 7
    yield "teacher", f"{teacher_accuracy:.1f}", "", "", "", "", ""
    for name, values in accuracy.items():
        control = CONTROLS.get(name, "")
        yield (
            name,
            f"{values.mean():.2f} ± {values.std(ddof=1):.2f}",
            difference(name, "KD"),
            difference(name, control),
            control,
            f"{rates[name]:g}",
            f"{seconds[name]:.1f}",
        )


def markdown(table):
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
        yield f"| {' | '.join(cells)} |"


smoke = "\nSMOKE RUN: the figures are meaningless.\n" if QUICK else ""
heading = (
    f"Test accuracy over {len(SEEDS)} seeds, mean ± std; differences, mean ± standard "
    f"error. {keras.config.backend()}.\n{smoke}"
)
text = "\n".join([heading, *markdown(list(table_rows())), ""])
print(f"\n{text}")
(OUT / f"{NAME}.md").write_text(text, encoding="utf-8")

# %%
import matplotlib.pyplot as plt

BLUE, GREY = "#2a6f97", "#8d99a6"
figure, axes = plt.subplots(
    figsize=(8, 1.2 + 0.3 * len(accuracy)), layout="constrained"
)
for row, (name, values) in enumerate(accuracy.items()):
    color = BLUE if name in CONTROLS else GREY
    mean, std = values.mean(), values.std(ddof=1)
    axes.plot([mean - std, mean + std], [row, row], color=color, lw=8, alpha=0.3)
    axes.plot(values, np.full(len(values), row), "o", ms=4, color=color, mec="white")
    axes.plot([mean, mean], [row - 0.3, row + 0.3], color=color, lw=2)
if "KD" in accuracy:
    axes.axvline(accuracy["KD"].mean(), color=GREY, lw=0.8, ls=":")
axes.set(
    title=f"{'SMOKE RUN. ' * QUICK}Test accuracy, %: {len(SEEDS)} seeds, mean ± std",
    yticks=range(len(accuracy)),
    yticklabels=accuracy,
    ylim=(len(accuracy) - 0.5, -0.5),
)
axes.spines[["top", "right"]].set_visible(False)
figure.savefig(OUT / f"{NAME}.png", dpi=150)
print(f"Saved table, picture and runs to {OUT / NAME}.md, .png and .jsonl.")
