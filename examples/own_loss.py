"""Write a custom temperature and a custom loss in forty lines

This example defines a temperature that is low where the teacher is uncertain, and a
loss that compares square roots of probabilities. Both are made up for this example.
They train a student on handwritten digits and are compared with plain knowledge
distillation (KD; Hinton et al., arXiv 1503.02531) in a table over three seeds. It takes
less than a minute on two processor cores; with `KERAS_DTKD_QUICK=1`, a smoke run, half
of that. One file goes to the current folder, or to `KERAS_DTKD_OUT`.
"""

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
from keras import ops

from keras_dtkd import Distiller, losses, temperatures
from keras_dtkd.functional.statistics import soft_log_probs

# %% [markdown]
# ## The temperature and the loss
# A temperature maps both models' logits, `(..., classes)`, to a `TemperaturePair`: the
# divisor of the student's logits, the divisor of the teacher's, and the weight that
# keeps the size of gradients constant. A loss returns one value per sample. `keras.ops`
# runs on every backend.


# %%
@keras.saving.register_keras_serializable("own_loss")
class Certainty(temperatures.Temperature):
    """`T = 1 + span · max p`: softer targets where the teacher is more confident."""

    def __init__(self, span=3.0, **kwargs):
        super().__init__(**kwargs)
        self.span = span

    def call(self, student_logits, teacher_logits):
        confidence = ops.max(ops.softmax(teacher_logits), axis=-1, keepdims=True)
        t = 1 + self.span * confidence
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
        temperature = keras.saving.serialize_keras_object(self.temperature)
        return {**super().get_config(), "temperature": temperature}


# %% [markdown]
# That is all. The two base classes provide sample weights, masks, warm-ups, logged mean
# temperatures, distribution and mixed precision. Both classes also work with those of
# the library: this temperature in `DKD`, this loss with `Dynamic`.

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
# ## Training on digits
# The teacher is trained on 1,297 images, the student on 300 of them; 500 are the test
# set. Nothing here was tuned, including the learning rate: `compare_methods.py` is a
# comparison with tuned learning rates.

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
    predicted = ops.convert_to_numpy(model(x_test)).argmax(-1)
    return 100 * np.mean(predicted == y_test)


def train(loss, seed):
    keras.utils.set_random_seed(seed)
    model = student = new_model(hidden=16, learning_rate=0.02)
    if loss is not None:
        # A new loss for each run, because losses may have weights.
        loss = type(loss).from_config(loss.get_config())
        model = Distiller(teacher, student, loss, task_weight=0.1)
    model.fit(x_train[:300], y_train[:300], batch_size=30, epochs=EPOCHS, verbose=0)
    return model, accuracy(student)


keras.utils.set_random_seed(0)
teacher = new_model(hidden=256, learning_rate=0.003)
teacher.fit(x_train, y_train, batch_size=64, epochs=EPOCHS, verbose=0)

smoke = "\nSMOKE RUN: the figures are meaningless." if QUICK else ""
print(f"{keras.config.backend()}, {len(SEEDS)} seeds, mean ± std{smoke}")
print(f"{'':22}accuracy %\n{'teacher':22}{accuracy(teacher):.1f}", flush=True)
for name, loss in METHODS.items():
    models, values = zip(*(train(loss, seed) for seed in SEEDS), strict=True)
    row = f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"
    print(f"{name:22}{row}", flush=True)

# %% [markdown]
# ## Saving
# A saved Distiller contains the custom loss, by its registered name and `get_config`.
# It does not contain the teacher, which is set again after loading. Saving
# `distiller.student` alone requires none of this.

# %%
OUT.mkdir(parents=True, exist_ok=True)
models[0].save(OUT / "own_loss.keras")
loaded = keras.models.load_model(OUT / "own_loss.keras")
loaded.teacher = teacher
np.testing.assert_array_equal(
    loaded.predict(x_test, verbose=0), models[0].predict(x_test, verbose=0)
)
(loss,) = loaded.distillation_losses.values()
names = f"{type(loss).__name__} with {type(loss.temperature).__name__}"
print(f"\n{OUT / 'own_loss.keras'} contains {names}.")
