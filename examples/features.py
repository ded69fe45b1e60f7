"""Distil hidden features, with controls, on handwritten digits

A teacher's outputs are ten numbers an image; its hidden features, thousands. This
example trains a student forty times smaller than its teacher with knowledge
distillation (KD) alone, and with a loss on the features of a nested backbone next to
it: hints (FitNets, Romero et al., arXiv 1412.6550), attention transfer, similarity
preserving, and relations (RKD). Each has a control: the same loss on the features of a
network that was never trained. It prints a table over three seeds and draws a picture.

It takes about ten minutes on one processor core with JAX; with `KERAS_DTKD_QUICK=1`, a
smoke run, one minute. Finished runs are kept in `features.jsonl`: start again, and it
goes on. Files go to the current folder, or to `KERAS_DTKD_OUT`.
"""

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np

import keras_dtkd
from keras_dtkd import Distiller, losses


def distill(teacher, student, *feature_losses):
    """KD, and losses on features next to it. Widths of the features may differ."""
    kd = losses.KD(temperature=4.0, weight=0.9)
    return Distiller(teacher, student, [kd, *feature_losses], task_weight=0.1)


# Pairs of the student's and the teacher's feature, and usual weights. A name is a
# layer's, or the path to it; `keras_dtkd.features(model, x)` lists them.
def new_loss(name, backbone="backbone", factor=1.0):
    pairs = [(f"stage{i}", f"{backbone}/stage{i}") for i in (1, 2)]
    return {
        "FitNet": lambda: losses.FitNet(pairs, weight=100 * factor),
        "attention": lambda: losses.AttentionTransfer(pairs, weight=1000 * factor),
        "similarity": lambda: losses.SimilarityPreserving(pairs, weight=3000 * factor),
        "relations": lambda: losses.RKD([("pool", f"{backbone}/pool")], weight=factor),
    }[name]()


# %% [markdown]
# ## The models
# Both are a backbone with a classifier. The teacher carries a second backbone that
# stays untrained, for the controls; it has no part in the outputs.

# %%
QUICK = os.environ.get("KERAS_DTKD_QUICK") == "1"
TEACHER_EPOCHS, EPOCHS, BATCH = (2, 2, 50) if QUICK else (30, 40, 30)
SEEDS, VALIDATION_SEEDS = (range(2), [100]) if QUICK else (range(3), [100])
FACTORS = [1.0] if QUICK else [0.01, 0.1, 1.0]
LOSSES = "FitNet", "attention", "similarity", "relations"


def new_backbone(width, name="backbone"):
    layers = [keras.Input((8, 8, 1))]
    for stage, size in ((1, width), (2, 2 * width)):
        layers += [
            keras.layers.Conv2D(size, 3, padding="same", name=f"conv{stage}"),
            keras.layers.BatchNormalization(momentum=0.9, name=f"norm{stage}"),
            keras.layers.ReLU(name=f"stage{stage}"),
            keras.layers.MaxPooling2D(name=f"down{stage}"),
        ]
    return keras.Sequential(
        [*layers, keras.layers.GlobalAveragePooling2D(name="pool")], name=name
    )


def new_model(width, *others):
    inputs = keras.Input((8, 8, 1))
    outputs = keras.layers.Dense(10)(new_backbone(width)(inputs))
    for other in others:
        outputs += 0.0 * keras.ops.mean(other(inputs), axis=-1, keepdims=True)
    return keras.Model(inputs, outputs)


def compiled(model, rate, steps):
    rate = keras.optimizers.schedules.CosineDecay(rate, steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    return model


# %% [markdown]
# ## The data
# The student is trained on 300 of the teacher's 1,297 images.

# %%
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

images, labels = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8, 1).astype("float32") / 16
x_train, x_test, y_train, y_test = train_test_split(
    images, labels, test_size=500, stratify=labels, random_state=0
)
x_few, y_few = x_train[:300], y_train[:300]
validation, test = (x_train[300:800], y_train[300:800]), (x_test, y_test)

keras.utils.set_random_seed(0)
untrained = new_backbone(32, "untrained")
untrained.trainable = False
steps = -(-len(x_train) // 64) * TEACHER_EPOCHS
teacher = compiled(new_model(32, untrained), 0.003, steps)
teacher.fit(x_train, y_train, batch_size=64, epochs=TEACHER_EPOCHS, verbose=0)
teacher_accuracy = 100 * teacher.evaluate(*test, verbose=0)[1]
names = keras_dtkd.features(teacher, x_test[:1], verbose=0)
print(f"The teacher's features: {', '.join(names)}.\n")

# %% [markdown]
# ## The runs
# The factor of each loss, and of each control, is the one with the best accuracy
# on validation images, with a seed that is not used for the test. A run keeps the test
# accuracy of the last epoch, and of the epoch that is best on the validation images.

# %%
import json
import time
from pathlib import Path

OUT = Path(os.environ.get("KERAS_DTKD_OUT", "."))
OUT.mkdir(parents=True, exist_ok=True)
RECORDS = OUT / f"features{'_quick' if QUICK else ''}.jsonl"
if QUICK:
    RECORDS.unlink(missing_ok=True)
lines = RECORDS.read_text().splitlines() if RECORDS.exists() else []
known = {tuple(r["key"]): r for r in map(json.loads, lines)}


evaluator = new_model(4)


class KeepWeights(keras.callbacks.Callback):
    """The student's weights after each epoch."""

    def on_train_begin(self, logs=None):
        self.weights = []

    def on_epoch_end(self, epoch, logs=None):
        student = getattr(self.model, "student", self.model)
        self.weights.append(student.get_weights())


def accuracies(weights, x, y):
    """After each epoch, in percent."""
    for values in weights:
        # One model for all: each new one would be compiled.
        evaluator.set_weights(values)
        outputs = evaluator.predict(x, batch_size=len(x), verbose=0)
        yield 100 * float((outputs.argmax(-1) == y).mean())


def run(arm, backbone, factor, seed):
    """One student, unless it is in the file. Returns its record."""
    key = arm, backbone, factor, seed
    if key in known:
        return known[key]
    keras.utils.set_random_seed(seed)
    steps, start = -(-len(x_few) // BATCH) * EPOCHS, time.perf_counter()
    model = compiled(new_model(4), 0.01, steps)
    if arm != "student alone":
        others = [] if arm == "KD" else [new_loss(arm, backbone, factor)]
        model = distill(teacher, model, *others)
    kept = KeepWeights()
    options = {"epochs": EPOCHS, "batch_size": BATCH, "verbose": 0}
    model.fit(x_few, y_few, callbacks=[kept], **options)
    seconds = time.perf_counter() - start
    on_validation = list(accuracies(kept.weights, *validation))
    on_test = list(accuracies(kept.weights, *test))
    known[key] = {
        "key": key,
        "validation": on_validation[-1],
        "last": on_test[-1],
        "best": on_test[int(np.argmax(on_validation))],
        "seconds": seconds,
    }
    with RECORDS.open("a") as file:
        file.write(json.dumps(known[key]) + "\n")
    return known[key]


def run_arm(arm, backbone=None):
    """The factor that is chosen, and the records of all test seeds."""
    candidates = FACTORS if arm in LOSSES else [1.0]
    means = {}
    for factor in candidates if len(candidates) > 1 else ():
        records = [run(arm, backbone, factor, seed) for seed in VALIDATION_SEEDS]
        means[factor] = np.mean([record["validation"] for record in records])
    factor = max(means, key=means.get) if means else 1.0
    return factor, [run(arm, backbone, factor, seed) for seed in SEEDS]


arms = {"student alone": run_arm("student alone"), "KD": run_arm("KD")}
for name in LOSSES:
    arms[f"KD + {name}"] = run_arm(name, "backbone")
    arms[f"KD + {name}, untrained"] = run_arm(name, "untrained")
    print(f"{name}: done", flush=True)

# %% [markdown]
# ## The table
# Test accuracy in percent, mean ± standard deviation over seeds; `minus KD` and
# `minus control` are paired differences after the last epoch, of students that began
# alike, mean ± standard error. The control of a loss is the same on an untrained
# backbone.

# %%
smoke = "\nSMOKE RUN: the figures are meaningless." if QUICK else ""
backend = keras.config.backend()
print(f"\nTest accuracy over {len(SEEDS)} seeds. {backend}.{smoke}\n")
values = {
    (arm, column): np.array([record[column] for record in records])
    for arm, (_, records) in arms.items()
    for column in ("last", "best", "seconds")
}


def difference(arm, other):
    if (other, "last") not in values or arm == other:
        return ""
    d = values[arm, "last"] - values[other, "last"]
    return f"{d.mean():+.2f} ± {d.std(ddof=1) / np.sqrt(len(d)):.2f}"


print("| arm | last epoch | best epoch | minus KD | minus control | factor | s |")
print("|---" * 7 + "|")
print(f"| teacher | {teacher_accuracy:.1f} | | | | | |")
for arm, (factor, _) in arms.items():
    columns = (values[arm, column] for column in ("last", "best"))
    cells = [f"{v.mean():.2f} ± {v.std(ddof=1):.2f}" for v in columns]
    cells += [difference(arm, "KD"), difference(arm, f"{arm}, untrained")]
    cells += [f"{factor:g}" if "+" in arm else ""]
    cells += [f"{values[arm, 'seconds'].mean():.1f}"]
    print(f"| {arm} | {' | '.join(cells)} |")

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
for row, arm in enumerate(arms):
    v = values[arm, "last"]
    color = "#2a6f97" if "+" in arm and "untrained" not in arm else "#8d99a6"
    ends = [v.mean() - v.std(ddof=1), v.mean() + v.std(ddof=1)]
    axes.plot(ends, [row, row], color=color, lw=8, alpha=0.3)
    axes.plot(v, np.full(len(v), row), "o", ms=4, color=color, mec="white")
    axes.plot([v.mean()] * 2, [row - 0.3, row + 0.3], color=color, lw=2)
axes.axvline(values["KD", "last"].mean(), color="#8d99a6", lw=0.8, ls=":")
axes.set(
    title=f"{'SMOKE RUN. ' * QUICK}Test accuracy, %: {len(SEEDS)} seeds, mean ± std",
    yticks=range(len(arms)),
    yticklabels=arms,
    ylim=(len(arms) - 0.5, -0.5),
)
axes.spines[["top", "right"]].set_visible(False)
figure.savefig(OUT / "features.png", dpi=120)
plt.close(figure)
if QUICK:
    RECORDS.unlink()
