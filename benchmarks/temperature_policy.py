"""RLKD's `temperatures.Policy` beside its controls, and what each costs.

    KERAS_BACKEND=tensorflow python benchmarks/temperature_policy.py

`synthetic`: the best temperature depends on what the policy sees. Inputs belong to one
of four classes, of a hundred that the teacher knows. Half of the samples have a teacher
that is sure of a wrong class, another for each sample: the true class stands out at a
high temperature alone. Of the other half it is not so sure, and right: a high
temperature lets the label drown in the 99 other classes. A policy learns in one `fit`.
Then students that have learned nothing take 300 updates on other data, with the
policy's mean action and with the controls. Reported is the reward an update: by how
much it lowers the cross-entropy on samples that nobody else has seen.

`digits`: accuracy on scikit-learn's digits, of the learning policy and its controls,
all trained on the same samples (the policy's held-out samples are kept from all).

`cost`: processor time of a step on the digits, in turns, beside `KD(4.0)`.

Stopped, it goes on where it was. `--tasks synthetic digits cost` chooses.
"""

import argparse
import time
from pathlib import Path

import keras
import numpy as np
from keras import ops
from machine import circumstances
from runs import Runs
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_dtkd import Distiller
from keras_dtkd.losses import KD
from keras_dtkd.methods.rlkd import Policy
from keras_dtkd.methods.rlkd.reward_callback import holdout_indices
from keras_dtkd.temperatures import Temperature, TemperaturePair

CLASSES, INPUTS, BATCH = 100, 4, 16
LEARN, UPDATES, RATE, HELD = 1200, 300, 0.005, 512
CONSTANTS = (1.1, 2.0, 4.0, 6.0, 8.0, 9.9)
ARMS = ("policy", "shuffled", "constant", "each half's best", *CONSTANTS)
DIGITS = ("KD(4.0)", "learn", "shuffled", "constant")
EPOCHS = 20
COSTS = {
    "KD(4.0)": lambda: 4.0,
    "policy, `reward_every=1`": Policy,
    "policy, `reward_every=8`": lambda: Policy(reward_every=8),
    "shuffled, `reward_every=1`": lambda: Policy(mode="shuffled"),
    "constant, `reward_every=1`": lambda: Policy(mode="constant"),
}
KEYS = ("task", "arm", "seed")


class Columns(keras.layers.Layer):
    """Some of the columns: the student's inputs, or the teacher's logits."""

    def __init__(self, columns, **kwargs):
        super().__init__(**kwargs)
        self.columns = columns
        self.built = True

    def call(self, x):
        return x[:, self.columns]


class EachHalfsBest(Temperature):
    """The lowest temperature where the teacher is unsure, a high one elsewhere."""

    def call(self, student_logits, teacher_logits):
        top = ops.max(ops.softmax(teacher_logits), axis=-1, keepdims=True)
        t = ops.where(top > 0.9, 8.0, 1.0)
        return TemperaturePair(t, t, t[..., 0] ** 2)


def samples(count, *seed):
    """Inputs beside the teacher's logits for them, and labels."""
    rng = np.random.default_rng(seed)
    y = rng.integers(INPUTS, size=count)
    x = np.eye(INPUTS)[y] + rng.normal(scale=0.1, size=(count, INPUTS))
    v = np.zeros((count, CLASSES))
    sure = np.flatnonzero(rng.random(count) < 0.5)
    right = np.setdiff1d(np.arange(count), sure)
    v[sure, rng.integers(INPUTS, CLASSES, size=len(sure))] = 30.0
    v[sure, y[sure]] = 20.0
    v[right, y[right]] = 5.5
    v += rng.normal(scale=0.3, size=v.shape)
    return np.hstack([x, v]).astype("float32"), y


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def distil(rule, seed, steps):
    """Trains a linear student, and says by how much an update lowers its loss."""
    width = INPUTS + CLASSES
    both = keras.Input((width,))
    teacher = keras.Model(both, Columns(slice(INPUTS, None))(both))
    hidden = Columns(slice(INPUTS))(both)
    student = keras.layers.Dense(CLASSES, kernel_initializer="zeros")(hidden)
    distiller = Distiller(
        teacher, keras.Model(both, student), KD(rule), task_weight=0.0
    )
    distiller.compile(keras.optimizers.SGD(RATE), cross_entropy())
    x, y = samples(steps * BATCH, seed, 1)
    distiller.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
    after = distiller.evaluate(*samples(4000, seed, 2), verbose=0)
    # Zero weights know nothing.
    return (np.log(CLASSES) - after) / steps


def synthetic(seed):
    """The reward an update of every arm, for one seed."""
    held = samples(2000, seed, 3)
    policy = Policy(seed=seed, holdout=held, reward_samples=HELD)
    found = {"learning": distil(policy, seed, LEARN), "learned T": shown(policy)}
    for arm in ARMS:
        rule = {"policy": "frozen"}.get(arm, arm)
        if arm in ("policy", "shuffled", "constant"):
            rule = policy.copy_with_mode(rule)
        elif arm == "each half's best":
            rule = EachHalfsBest()
        found[str(arm)] = distil(rule, 1000 + seed, UPDATES)
    return found


def shown(policy):
    """Mean temperature of the half that is sure, and of the other."""
    x, _ = samples(400, 0, 4)
    logits = x[:, INPUTS:]
    t = ops.convert_to_numpy(policy(np.zeros_like(logits), logits).student)[:, 0]
    sure = np.exp(logits.max(1)) / np.exp(logits).sum(1) > 0.9
    return [float(t[sure].mean()), float(t[~sure].mean()), policy.mean_temperature]


def images():
    x, y = load_digits(return_X_y=True)
    x = x.astype("float32") / 16
    return train_test_split(x, y, test_size=500, stratify=y, random_state=0)


def network(*widths, seed):
    keras.utils.set_random_seed(seed)
    hidden = [keras.layers.Dense(width, activation="relu") for width in widths]
    return keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(10)])


def taught():
    x, _, y, _ = images()
    teacher = network(256, 256, seed=0)
    teacher.compile("adam", cross_entropy(), metrics=["accuracy"])
    teacher.fit(x, y, batch_size=64, epochs=20, verbose=0)
    return teacher


def student_of(teacher, rule, seed):
    distiller = Distiller(teacher, network(16, seed=seed), KD(rule))
    distiller.compile(keras.optimizers.SGD(0.02), cross_entropy(), metrics=["accuracy"])
    return distiller


def digits(teacher, arm, seed):
    """Test accuracy, in percent, and the mean of the last epoch's temperatures."""
    x, x_test, y, y_test = images()
    keep = Policy(mode="learn" if arm == "KD(4.0)" else arm, seed=seed)
    if arm == "KD(4.0)":
        # The very samples that the others hold out are kept from it too.
        held = holdout_indices(len(x), 0.1)
        x, y, keep = np.delete(x, held, 0), np.delete(y, held, 0), 4.0
    distiller = student_of(teacher, keep, seed)
    history = distiller.fit(x, y, epochs=EPOCHS, batch_size=32, verbose=0).history
    accuracy = 100 * distiller.evaluate(x_test, y_test, verbose=0)[1]
    return {"accuracy": accuracy, "T": float(history["student_temperature"][-1])}


class Clock(keras.callbacks.Callback):
    """Processor and wall-clock time of a step, in each epoch but the first."""

    def __init__(self):
        super().__init__()
        self.times = []

    def on_epoch_begin(self, epoch, logs=None):
        self.start = np.array([time.process_time(), time.perf_counter()])

    def on_epoch_end(self, epoch, logs=None):
        now = np.array([time.process_time(), time.perf_counter()])
        if epoch:
            self.times.append((now - self.start) / self.params["steps"])


def cost(teacher, arm, seed):
    """Milliseconds a step: processor time and wall-clock, medians of nine epochs."""
    x, _, y, _ = images()
    clock = Clock()
    distiller = student_of(teacher, COSTS[arm](), seed)
    distiller.fit(x, y, epochs=10, batch_size=32, verbose=0, callbacks=[clock])
    processor, wall = 1000 * np.median(clock.times, axis=0)
    return {"processor": processor, "wall": wall}


def mean(values):
    values = np.asarray(values, "float64")
    return values.mean(), values.std(ddof=1) / np.sqrt(len(values))


def table(header, lines):
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, rule, *lines])


def report_synthetic(rows):
    policy = np.array([row["policy"] for row in rows])
    lines = []
    for arm in map(str, ARMS):
        values = np.array([row[arm] for row in rows])
        name = f"T = {arm}" if arm[0].isdigit() else arm
        line = [name, "{:.3f} ± {:.3f}".format(*mean(1000 * values)), "", ""]
        if arm != "policy":
            gain, error = mean(1000 * (policy - values))
            line[2:] = [f"{gain:+.3f} ± {error:.3f}", f"{gain / error:+.1f}"]
        lines.append(line)
    learned = np.array([row["learned T"] for row in rows])
    halves = ", ".join(
        f"{name} {learned[:, i].min():.1f} to {learned[:, i].max():.1f}"
        for i, name in enumerate(("sure and wrong", "unsure and right", "mean"))
    )
    head = ["arm", "reward an update, 10⁻³ nats", "policy less it", "in errors"]
    return (
        f"## Synthetic, {len(rows)} seeds\n\n{table(head, lines)}\n\n"
        f"Means ± standard errors, of differences within a seed. Temperatures that the "
        f"policies found in {LEARN} updates: {halves}."
    )


def report_digits(rows):
    lines = []

    def of(arm, key):
        return np.array([row[key] for row in rows if row["arm"] == arm])

    base = of(DIGITS[0], "accuracy")
    for arm in DIGITS:
        accuracy = of(arm, "accuracy")
        less = "{:+.2f} ± {:.2f}".format(*mean(accuracy - base))
        both = ["{:.2f} ± {:.2f}".format(*mean(v)) for v in (accuracy, of(arm, "T"))]
        lines.append([arm, both[0], "" if arm == DIGITS[0] else less, both[1]])
    head = ["arm", "test accuracy, %", "less KD(4.0)", "temperature, last epoch"]
    return f"## Digits, {len(base)} seeds\n\n{table(head, lines)}"


def report_cost(rows):
    lines = []
    base = {row["seed"]: row for row in rows if row["arm"] == "KD(4.0)"}
    for arm in COSTS:
        of = [row for row in rows if row["arm"] == arm]
        ratios = [row["processor"] / base[row["seed"]]["processor"] for row in of]
        medians = [np.median([row[k] for row in of]) for k in ("processor", "wall")]
        lines.append([arm, *(f"{m:.2f}" for m in medians), f"{np.median(ratios):.2f}"])
    head = ["arm", "processor, ms a step", "wall, ms a step", "processor, of KD's"]
    return f"## Cost, medians of {len(base)} rounds\n\n{table(head, lines)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tasks = ("synthetic", "digits", "cost")
    parser.add_argument("--tasks", nargs="+", choices=tasks, default=tasks)
    parser.add_argument("--seeds", type=int, default=5)
    folder = Path(__file__).parent / "results"
    parser.add_argument("--output", type=Path, default=folder / "temperature_policy")
    options = parser.parse_args()
    where = circumstances()
    settings = {"learn": LEARN, "updates": UPDATES, "rate": RATE, "epochs": EPOCHS}
    path = options.output.with_suffix(".jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    runs = Runs(path, {**settings, "backend": where["backend"]}, KEYS)
    teacher = None if options.tasks == ["synthetic"] else taught()
    made = {
        "synthetic": lambda task, arm, seed: synthetic(seed),
        "digits": lambda task, arm, seed: digits(teacher, arm, seed),
        "cost": lambda task, arm, seed: cost(teacher, arm, seed),
    }
    arms = {"synthetic": ["all"], "digits": DIGITS, "cost": list(COSTS)}
    parts = [f"# The temperature policy\n\n    {where['command']}"]
    parts.append(
        f"{where['backend']} {where['versions'][where['backend']]}, Keras "
        f"{where['versions']['keras']}, {where['cpu']}, {where['cores']} cores, load "
        f"{where['load']:.1f}."
    )
    reports = (report_synthetic, report_digits, report_cost)
    for task, report in zip(tasks, reports, strict=True):
        if task in options.tasks:
            rows = []
            for seed in range(options.seeds):
                for arm in arms[task]:
                    rows.append(runs.get((task, arm, seed), made[task]))
                    print(rows[-1], flush=True)
            parts.append(report(rows))
    text = "\n\n".join(parts) + "\n"
    options.output.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
