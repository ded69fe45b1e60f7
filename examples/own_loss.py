"""A temperature and a loss of your own, in forty lines

A temperature that is low where the teacher hesitates, and a loss that compares square
roots of probabilities: ideas for this lesson, from no paper. They train a student to
read handwritten digits, beside plain knowledge distillation (KD; Hinton et al., arXiv
1503.02531). You will see a table of them over three seeds. It takes less than a minute
on two processor cores; with `KERAS_DTKD_QUICK=1`, a smoke run, half of that. One file
goes to the current folder, or to `KERAS_DTKD_OUT`.
"""

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
from keras import ops

from keras_dtkd import Distiller, losses, temperatures
from keras_dtkd.functional.statistics import soft_log_probs

# %% [markdown]
# ## The two ideas
# A temperature takes both models' logits, `(..., classes)`, to three things: what
# divides the student's logits, what divides the teacher's, and the weight that keeps
# gradients of one size. A loss gives one value a sample. `ops` runs on every backend.


# %%
@keras.saving.register_keras_serializable("own_loss")
class Certainty(temperatures.Temperature):
    """`T = 1 + span · max p`: the surer the teacher, the softer its answer is made."""

    def __init__(self, span=3.0, **kwargs):
        super().__init__(**kwargs)
        self.span = span

    def call(self, student_logits, teacher_logits):
        sure = ops.max(ops.softmax(teacher_logits), axis=-1, keepdims=True)
        t = 1 + self.span * sure
        return temperatures.TemperaturePair(student=t, teacher=t, weight=t[..., 0] ** 2)

    def get_config(self):
        return {**super().get_config(), "span": self.span}


@keras.saving.register_keras_serializable("own_loss")
class Hellinger(losses.DistillationLoss):
    """`½ Σ (√p − √q)²`, that is `1 − Σ √(p q)`, the squared Hellinger distance."""

    def __init__(self, temperature=4.0, **kwargs):
        super().__init__(**kwargs)
        self.temperature = temperatures.get(temperature)

    def call(self, student_logits, teacher_logits, labels=None):
        t = self.temperature(student_logits, teacher_logits)
        log_p = soft_log_probs(teacher_logits, t.teacher)
        log_q = soft_log_probs(student_logits, t.student)
        affinity = ops.exp(ops.logsumexp((log_p + log_q) / 2, axis=-1))
        return t.weight * (1 - affinity)

    def get_config(self):
        rule = keras.saving.serialize_keras_object(self.temperature)
        return {**super().get_config(), "temperature": rule}


# %% [markdown]
# That is all. Weights of samples, masks, warm-ups, the logged means of temperatures,
# devices and mixed precision come with the two base classes; and either idea works with
# all of the library's: your temperature in `DKD`, your loss with `Dynamic`.

# %%
METHODS = {
    "student alone": None,
    "KD": losses.KD(weight=0.9),
    "KD, Certainty": losses.KD(Certainty(), weight=0.9),
    # Where the models nearly agree, KL is four times the squared Hellinger distance.
    "Hellinger": Hellinger(weight=3.6),
    "Hellinger, Certainty": Hellinger(Certainty(), weight=3.6),
}

# %% [markdown]
# ## On digits
# The teacher learns from 1,297 images, the student from 300 of them; 500 are the test.
# Nothing here was tuned, the learning rate neither: for a comparison that was, see
# `compare_methods.py`.

# %%
from pathlib import Path

import numpy as np
from keras.layers import Dense
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

QUICK = os.environ.get("KERAS_DTKD_QUICK") == "1"
SEEDS, EPOCHS = (range(2), 4) if QUICK else (range(3), 20)
OUT = Path(os.environ.get("KERAS_DTKD_OUT", "."))

images, labels = load_digits(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(
    images.astype("float32") / 16,
    labels,
    test_size=500,
    stratify=labels,
    random_state=0,
)


def new_model(hidden, learning_rate):
    layers = [Dense(hidden, activation="relu"), Dense(10)]
    model = keras.Sequential([keras.Input((64,)), *layers])
    model.compile(
        keras.optimizers.Adam(learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def accuracy(model):
    choice = ops.convert_to_numpy(model(x_test)).argmax(-1)
    return 100 * np.mean(choice == y_test)


def trained(loss, seed):
    keras.utils.set_random_seed(seed)
    model = student = new_model(hidden=16, learning_rate=0.02)
    if loss is not None:
        # Each run has a loss of its own: losses hold weights too.
        loss = type(loss).from_config(loss.get_config())
        model = Distiller(teacher, student, loss, task_weight=0.1)
    model.fit(x_train[:300], y_train[:300], batch_size=30, epochs=EPOCHS, verbose=0)
    return model, accuracy(student)


keras.utils.set_random_seed(0)
teacher = new_model(hidden=256, learning_rate=0.003)
teacher.fit(x_train, y_train, batch_size=64, epochs=EPOCHS, verbose=0)

smoke = "\nA SMOKE RUN: its figures mean nothing." if QUICK else ""
print(f"{keras.config.backend()}, {len(SEEDS)} seeds, mean ± std{smoke}")
print(f"{'':22}accuracy %\n{'teacher':22}{accuracy(teacher):.1f}", flush=True)
for name, loss in METHODS.items():
    models, values = zip(*(trained(loss, seed) for seed in SEEDS), strict=True)
    row = f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"
    print(f"{name:22}{row}", flush=True)

# %% [markdown]
# ## It is saved with the model
# A file of the Distiller holds your loss by its registered name and `get_config`, and
# never the teacher, which is given again. `distiller.student` alone needs none of this.

# %%
OUT.mkdir(parents=True, exist_ok=True)
models[0].save(OUT / "own_loss.keras")
loaded = keras.models.load_model(OUT / "own_loss.keras")
loaded.teacher = teacher
np.testing.assert_array_equal(
    loaded.predict(x_test, verbose=0), models[0].predict(x_test, verbose=0)
)
(loss,) = loaded.distillation_losses.values()
found = f"{type(loss).__name__} with {type(loss.temperature).__name__}"
print(f"\n{OUT / 'own_loss.keras'} holds {found}.")
