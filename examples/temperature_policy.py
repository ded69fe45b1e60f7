"""A policy learns each sample's temperature: handwritten digits

Reinforcement learning chooses the temperature of knowledge distillation (KD), sample by
sample, as in "Instance Temperature Knowledge Distillation" (RLKD; Zhang et al., arXiv
2407.00115): it is paid for what each update gains on samples held out of training. You
will see whether that is worth anything beside its own temperatures dealt at random,
their mean held constant, and DTKD, which computes a temperature for each sample; a
table of them over five seeds, and a picture of the temperatures. The images come with
scikit-learn; nothing is downloaded.

It takes five to ten minutes on two processor cores; with `KERAS_DTKD_QUICK=1`, a
smoke run, less than one. A picture goes to the current folder, or to `KERAS_DTKD_OUT`.
"""

# %%
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
from keras.layers import Dense
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_dtkd import Distiller
from keras_dtkd.losses import KD
from keras_dtkd.methods.rlkd import Policy

QUICK = os.environ.get("KERAS_DTKD_QUICK") == "1"
SEEDS, EPOCHS = (range(2), 4) if QUICK else (range(5), 40)
OUT = Path(os.environ.get("KERAS_DTKD_OUT", "."))

# %% [markdown]
# ## The data
# The teacher learns from 1,297 digits. The student learns from 500 of them; rewards are
# measured on another 100, which no student here is trained on. 500 more are the test.

# %%
images, labels = load_digits(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(
    images.astype("float32") / 16,
    labels,
    test_size=500,
    stratify=labels,
    random_state=0,
)
x, y = x_train[:500], y_train[:500]
holdout = x_train[500:600], y_train[500:600]


# %%
def new_model(hidden, optimizer):
    layers = [Dense(hidden, activation="relu"), Dense(10)]
    model = keras.Sequential([keras.Input((64,)), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


def new_student():
    # Without momentum a reward is all of what its own update gains.
    return new_model(16, keras.optimizers.SGD(0.1))


keras.utils.set_random_seed(0)
teacher = new_model(256, "adam")
print("The teacher trains ...", flush=True)
teacher.fit(x_train, y_train, batch_size=64, epochs=EPOCHS, verbose=0)

# %% [markdown]
# ## A student, and a policy that learns with it
# The policy sees four numbers of a sample: the greatest probability and its margin over
# the second, the teacher's and the student's. It draws a temperature between 1 and 10.
# `fit` measures the rewards and gives the policy its lessons (PPO).

# %%
student = new_student()
policy = Policy(holdout=holdout)
distiller = Distiller(teacher, student, KD(temperature=policy))
distiller.fit(x, y, batch_size=20, epochs=EPOCHS, verbose=0)
print(f"The policy took {policy.num_policy_updates} lessons.")
print(f"Its last temperatures are {policy.mean_temperature:.1f} on average.")

# %% [markdown]
# That is all one needs. Was it worth it?
#
# ## Four policies and three rules
# All train that student on the same 500 images with the same loss, CE + KD; only the
# temperatures differ. In each seed a policy learns together with a student, and then
# chooses for a second one, with the same start, from the first step on. It may be good
# for two reasons: because it tells samples apart, or because its temperatures are high
# or low. So its temperatures are also dealt to the samples at random, and their mean is
# given to all.

# %%
import time

import matplotlib.pyplot as plt
import numpy as np

from keras_dtkd.temperatures import Dynamic

RULES = {
    "student alone": lambda learned: None,
    "T = 4": lambda learned: 4.0,
    "DTKD's": lambda learned: Dynamic(4.0, min_temperature="auto"),
    "policy, learning": lambda learned: learned,
    "policy, learned": lambda learned: learned.copy_with_mode("frozen"),
    "dealt at random": lambda learned: learned.copy_with_mode("shuffled"),
    "their mean": lambda learned: learned.copy_with_mode("constant"),
}


def logits(model):
    return keras.ops.convert_to_numpy(model(x_test, training=False))


def run(name, seed, learned):
    """Test accuracy, mean temperature of the last epoch, seconds; and the student."""
    keras.utils.set_random_seed(seed)
    model = student = new_student()
    rule = RULES[name](learned)
    if rule is not None:
        model = Distiller(teacher, student, KD(temperature=rule))
    begin = time.perf_counter()
    history = model.fit(x, y, batch_size=20, epochs=EPOCHS, verbose=0).history
    seconds = time.perf_counter() - begin
    accuracy = 100 * (logits(student).argmax(-1) == y_test).mean()
    # DTKD's temperatures are two: the student's is shown.
    mean = history.get("student_temperature", [np.nan])[-1]
    print(f"seed {seed}  {name:17}{accuracy:5.1f} %{seconds:6.1f} s", flush=True)
    return (accuracy, mean, seconds), student


results, chosen = {name: [] for name in RULES}, []
teacher_logits = logits(teacher)
for seed in SEEDS:
    learned = Policy(holdout=holdout, seed=seed)
    for name in RULES:
        numbers, student = run(name, seed, learned)
        results[name].append(numbers)
        if name == "policy, learned":
            t = learned(logits(student), teacher_logits).student
            chosen.append((logits(student), keras.ops.convert_to_numpy(t)[:, 0]))
results = {name: np.array(rows).T for name, rows in results.items()}


# %%
def mean_std(values):
    return f"{values.mean():.1f} ± {values.std(ddof=1):.1f}"


def paired(values):
    """Mean and standard error of differences within a seed."""
    return f"{values.mean():+.2f} ± {values.std(ddof=1) / np.sqrt(len(values)):.2f}"


smoke = "\nA SMOKE RUN: its figures mean nothing." if QUICK else ""
row = "{:17}{:>13}{:>16}{:>19}{:>13}{:>9}".format
print(f"\n{keras.config.backend()}, {len(SEEDS)} seeds, mean ± std{smoke}")
print("Differences within a seed: mean ± standard error.")
accuracy = 100 * (teacher_logits.argmax(-1) == y_test).mean()
head = "accuracy %", "less T = 4", "less their mean", "temperature", "seconds"
print(row("", *head))
print(row("teacher", f"{accuracy:.1f}", "", "", "", ""))
for name, (values, means, seconds) in results.items():
    others = [paired(values - results[to][0]) for to in ("T = 4", "their mean")]
    mean = "" if name == "student alone" else mean_std(means)
    print(row(name, mean_std(values), *others, mean, f"{seconds.mean():.1f}"))

# %% [markdown]
# ## The temperatures
# On the right each dot is a test image, each colour the policy of another seed, as it
# chooses for the second student when that is trained. Had they found something that is
# true of these digits, the colours would lie on one another. They do not: each policy
# has found something else, and its temperatures serve the student no better than dealt
# at random, or than T = 4. (docs/rlkd.md has the figures of three backends, and a task
# where the best temperature depends on what the policy sees. There it finds it.)

# %%
RED, BLUE, GREY = "#c8553d", "#2a6f97", "#8d99a6"
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.5), layout="constrained")
if QUICK:
    figure.suptitle("A SMOKE RUN: its figures mean nothing", color=RED)
for place, (name, (values, _, _)) in enumerate(results.items()):
    colour = BLUE if name.startswith("policy") else GREY
    left.plot(values, np.full(len(values), place), "o", color=colour, mec="white")
    left.plot([values.mean()] * 2, [place - 0.25, place + 0.25], color=colour, lw=2.5)
    left.text(values.mean(), place - 0.32, mean_std(values), color=colour, ha="center")
left.axvline(accuracy, color=RED, ls="--")
left.text(accuracy, -0.8, "teacher ", color=RED, ha="right", va="center")
left.set(
    title=f"Test accuracy, %: {len(SEEDS)} seeds",
    yticks=range(len(RULES)),
    yticklabels=RULES,
    ylim=(len(RULES) - 0.5, -1.1),
)
for seed, (student_logits, t) in zip(SEEDS, chosen, strict=True):
    p = np.exp(student_logits - student_logits.max(-1, keepdims=True))
    top = (p / p.sum(-1, keepdims=True)).max(-1)
    right.plot(top, t, ".", color=plt.cm.viridis(seed / len(SEEDS)), label=seed)
right.set(
    title="What the learned policies choose for test images",
    xlabel="the student's greatest probability",
    ylabel="temperature",
    ylim=(1, 10),
)
right.legend(title="seed", loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
OUT.mkdir(parents=True, exist_ok=True)
figure.savefig(OUT / "temperature_policy.png", dpi=150)
print(f"The picture is in {OUT / 'temperature_policy.png'}.")
