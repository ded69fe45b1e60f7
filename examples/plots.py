"""Look at a distillation: the seven plots

`keras_dtkd.plots` draws what happens when one network teaches another: the accuracy
over the epochs, the temperatures that a method gives to easy and to hard samples, the
soft labels, how far the confidence of both networks can be trusted, what the student
took from its teacher, and which blocks of a network its classes share. This example
trains small networks on handwritten digits and draws all seven. The images come with
scikit-learn; nothing is downloaded.

It takes two to three minutes on two processor cores; with `KERAS_DTKD_QUICK=1`, a smoke
run, less than one. Files go to the current folder, or to `KERAS_DTKD_OUT`.
"""

# %%
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
from keras.layers import Conv2D, Dense, Dropout, Flatten, MaxPooling2D
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_dtkd import Distiller, explain, models, plots
from keras_dtkd.callbacks import AttentionEntropyLogger, AttentionTemperature
from keras_dtkd.losses import DTKD, KD

QUICK = os.environ.get("KERAS_DTKD_QUICK") == "1"
TEACHER_EPOCHS, EPOCHS = (5, 3) if QUICK else (30, 40)
OUT = Path(os.environ.get("KERAS_DTKD_OUT", "."))
OUT.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## Teacher and students
# As in the quickstart: a convolutional network that learned from 1,297 digits teaches a
# small one on 300 of them, by plain knowledge distillation (KD) and by Dynamic
# Temperature KD (DTKD).

# %%
images, labels = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8, 1).astype("float32") / 16
x_train, x_test, y_train, y_test = train_test_split(
    images, labels, test_size=500, stratify=labels, random_state=0
)
x_few, y_few = x_train[:300], y_train[:300]

loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
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
teacher = keras.Sequential([keras.Input((8, 8, 1)), *large])
teacher.compile("adam", loss, metrics=["accuracy"])
print("Training the teacher ...", flush=True)
teacher.fit(x_train, y_train, batch_size=64, epochs=TEACHER_EPOCHS, verbose=0)


# %%
def distill(teacher, distillation_loss):
    """The student, and what `fit` returned."""
    keras.utils.set_random_seed(0)
    small = [Flatten(), Dense(64, activation="relu"), Dense(10)]
    student = keras.Sequential([keras.Input((8, 8, 1)), *small])
    student.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    history = Distiller(teacher, student, distillation_loss).fit(
        x_few,
        y_few,
        batch_size=30,
        epochs=EPOCHS,
        validation_data=(x_test, y_test),
        verbose=0,
    )
    return student, history


dtkd = DTKD()
print("Training two students ...", flush=True)
by_kd, kd_history = distill(teacher, KD(weight=4.0))
by_dtkd, dtkd_history = distill(teacher, dtkd)


def save(figure, name):
    if QUICK:
        figure.suptitle("SMOKE RUN: the figures are meaningless")
    figure.savefig(OUT / f"plots_{name}.png", dpi=100)
    print(f"Saved {OUT / f'plots_{name}.png'}.")


# %% [markdown]
# ## Accuracy over the epochs
# Of one run, `training_curves(distiller.fit(...))` draws training and validation. Of
# several, it compares one metric.

# %%
figure = plots.training_curves({"KD": kd_history, "DTKD": dtkd_history})
save(figure, "training_curves")

# %% [markdown]
# ## Temperatures
# From left to right the test samples are ordered by how hard the teacher finds them: by
# its entropy. The lines are the medians of the temperatures of both models.

# %%
teacher_logits = teacher.predict(x_test, verbose=0)
student_logits = by_dtkd.predict(x_test, verbose=0)
figure = plots.temperatures(
    dtkd.temperature, student_logits, teacher_logits, labels=y_test
)
save(figure, "temperatures")

# %% [markdown]
# ## Soft labels
# The probabilities of both networks for four samples, from one on which the teacher is
# sure to one on which it hesitates. The triangle marks the true class.

# %%
figure = plots.soft_labels(
    teacher_logits, student_logits, images=x_test, labels=y_test, samples=4
)
save(figure, "soft_labels")

# %% [markdown]
# ## Calibration
# Where a line is on the diagonal, a network that is 90 % sure is right in 90 % of the
# cases. Most of these digits are easy, so that few samples are left for low confidence.

# %%
outputs = {
    "teacher": teacher_logits,
    "KD": by_kd.predict(x_test, verbose=0),
    "DTKD": student_logits,
}
figure = plots.calibration(y_test, outputs, bins=5)
save(figure, "calibration")

# %% [markdown]
# ## What the student took from its teacher
# Another teacher learned from wrong labels: the bold half of the eights were labeled 3.
# Its student has the right labels, and repeats the teacher's confusion all the same.

# %%
ink = x_train.mean(axis=(1, 2, 3))
is_bold = (y_train == 8) & (ink > np.median(ink[y_train == 8]))
layers = [Flatten(), Dense(128, activation="relu"), Dense(10)]
keras.utils.set_random_seed(0)
mistaken = keras.Sequential([keras.Input((8, 8, 1)), *layers])
mistaken.compile("adam", loss)
print("Training another teacher and its student ...", flush=True)
y_wrong = np.where(is_bold, 3, y_train)
mistaken.fit(x_train, y_wrong, batch_size=64, epochs=2 * TEACHER_EPOCHS, verbose=0)
by_mistaken, _ = distill(mistaken, KD(weight=10.0))
explanation = explain(mistaken, by_mistaken, (x_test, y_test))
figure = plots.explanation(explanation)
save(figure, "explanation")

# %% [markdown]
# ## A mixture of blocks
# KDExplainer's student has levels of blocks, and each class attends to some of them. On
# the left, its attention after training; on the right, the tree of the strongest
# connections.


# %%
def train_mixture(distillation_loss):
    """A mixture, and the entropies of its attention."""
    keras.utils.set_random_seed(0)
    heads = models.ClassHeads((32,), dropout=0.0)
    mixture = models.HierarchicalMixture(
        10, (8, 8, 1), block=models.conv_block(16), heads=heads
    )
    mixture.compile(keras.optimizers.Adam(0.003), loss, metrics=["accuracy"])
    logger = AttentionEntropyLogger()
    # The published schedule ends at 10 / 300.
    temperature = AttentionTemperature(lambda epoch: 10 / (1 + 300 * epoch / EPOCHS))
    Distiller(teacher, mixture, distillation_loss).fit(
        x_few,
        y_few,
        batch_size=30,
        epochs=EPOCHS,
        callbacks=[temperature, logger],
        verbose=0,
    )
    return mixture, logger.history


print("Training two mixtures ...", flush=True)
mixture, kd_entropy = train_mixture(KD(weight=4.0))
figure = plots.mixture_tree(mixture, mixture.harden(), titles=("attention", "tree"))
save(figure, "mixture_tree")

# %% [markdown]
# ## Entropy of attention
# The entropy falls with the temperature. `KD(weight=0.0)` trains on labels alone.

# %%
_, label_entropy = train_mixture(KD(weight=0.0))
figure = plots.attention_entropy({"labels": label_entropy, "KD": kd_entropy})
save(figure, "attention_entropy")
