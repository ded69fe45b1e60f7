"""RLKD's `Policy` compared with its controls, and the cost of each.

    KERAS_BACKEND=tensorflow python benchmarks/temperature_policy.py

`synthetic`: the best temperature depends on the policy's state. Inputs belong to one of
four classes, out of a hundred of the teacher. For half of the samples the teacher is
confident about a wrong class, a different one for each sample: the true class stands
out only at a high temperature. For the other half it is less confident, and correct: at
a high temperature the label is lost among the 99 other classes. A policy is trained in
one `fit`. Then untrained students take 300 updates on other data, with the policy's
mean action and with the controls. The result is the reward per update: the decrease of
the cross-entropy on separate samples.

`digits`: accuracy on scikit-learn's digits, of the learning policy and its controls,
all trained on the same samples (without the policy's held-out samples).

`cost`: processor time of a step on the digits, in turns, compared with `KD(4.0)`.

If it is interrupted, the same command resumes it. `--tasks synthetic digits cost`
selects tasks.
"""

import argparse
import time
from pathlib import Path

import keras
import numpy as np
from keras import ops
from machine import environment_info
from runs import Runs
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_dtkd import Distiller
from keras_dtkd.losses import KD
from keras_dtkd.methods.rlkd import Policy
from keras_dtkd.preparation.holdout import holdout_indices
from keras_dtkd.temperatures import Temperature, TemperaturePair

CLASSES, INPUTS, BATCH = 100, 4, 16
LEARN, UPDATES, RATE, REWARD_SAMPLES = 1200, 300, 0.005, 512
CONSTANTS = (1.1, 2.0, 4.0, 6.0, 8.0, 9.9)
ARMS = ("policy", "random", "constant", "each half's best", *CONSTANTS)
DIGITS_ARMS = ("KD(4.0)", "learn", "random", "constant")
EPOCHS = 20
COSTS = {
    "KD(4.0)": lambda: 4.0,
    "policy, `reward_every=1`": Policy,
    "policy, `reward_every=8`": lambda: Policy(reward_every=8),
    "random, `reward_every=1`": lambda: Policy(mode="shuffled"),
    "constant, `reward_every=1`": lambda: Policy(mode="constant"),
}
KEYS = ("task", "arm", "seed")


class Columns(keras.layers.Layer):
    """A slice of the columns: the student's inputs, or the teacher's logits."""

    def __init__(self, columns, **kwargs):
        super().__init__(**kwargs)
        self.columns = columns
        self.built = True

    def call(self, x):
        return x[:, self.columns]


class BestPerHalf(Temperature):
    """A high temperature where the teacher is confident, the lowest elsewhere."""

    def call(self, student_logits, teacher_logits):
        top = ops.max(ops.softmax(teacher_logits), axis=-1, keepdims=True)
        t = ops.where(top > 0.9, 8.0, 1.0)
        return TemperaturePair(t, t, t[..., 0] ** 2)


def sample_data(num_samples, *seed):
    """Inputs concatenated with the teacher's logits for them, and labels."""
    rng = np.random.default_rng(seed)
    y = rng.integers(INPUTS, size=num_samples)
    x = np.eye(INPUTS)[y] + rng.normal(scale=0.1, size=(num_samples, INPUTS))
    logits = np.zeros((num_samples, CLASSES))
    wrong = np.flatnonzero(rng.random(num_samples) < 0.5)
    correct = np.setdiff1d(np.arange(num_samples), wrong)
    logits[wrong, rng.integers(INPUTS, CLASSES, size=len(wrong))] = 30.0
    logits[wrong, y[wrong]] = 20.0
    logits[correct, y[correct]] = 5.5
    logits += rng.normal(scale=0.3, size=logits.shape)
    return np.hstack([x, logits]).astype("float32"), y


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def reward_per_update(temperature, seed, steps):
    """Trains a linear student. Returns the decrease of its loss per update."""
    width = INPUTS + CLASSES
    inputs = keras.Input((width,))
    teacher = keras.Model(inputs, Columns(slice(INPUTS, None))(inputs))
    hidden = Columns(slice(INPUTS))(inputs)
    outputs = keras.layers.Dense(CLASSES, kernel_initializer="zeros")(hidden)
    student = keras.Model(inputs, outputs)
    distiller = Distiller(teacher, student, KD(temperature), task_weight=0.0)
    distiller.compile(keras.optimizers.SGD(RATE), cross_entropy())
    x, y = sample_data(steps * BATCH, seed, 1)
    distiller.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
    after = distiller.evaluate(*sample_data(4000, seed, 2), verbose=0)
    # With zero weights the loss is log(classes).
    return (np.log(CLASSES) - after) / steps


def synthetic(seed):
    """The reward per update of every arm, for one seed."""
    holdout = sample_data(2000, seed, 3)
    policy = Policy(seed=seed, holdout=holdout, reward_samples=REWARD_SAMPLES)
    results = {
        "learning": reward_per_update(policy, seed, LEARN),
        "learned T": learned_temperatures(policy),
    }
    temperatures = {
        "policy": policy.copy_with_mode("frozen"),
        "random": policy.copy_with_mode("shuffled"),
        "constant": policy.copy_with_mode("constant"),
        "each half's best": BestPerHalf(),
    }
    for arm in ARMS:
        temperature = temperatures.get(arm, arm)
        results[str(arm)] = reward_per_update(temperature, 1000 + seed, UPDATES)
    return results


def learned_temperatures(policy):
    """Mean temperatures of the half with a confident teacher, of the other, of all."""
    x, _ = sample_data(400, 0, 4)
    logits = x[:, INPUTS:]
    t = ops.convert_to_numpy(policy(np.zeros_like(logits), logits).student)[:, 0]
    confident = np.exp(logits.max(1)) / np.exp(logits).sum(1) > 0.9
    means = t[confident].mean(), t[~confident].mean()
    return [*map(float, means), policy.mean_temperature]


def load_data():
    x, y = load_digits(return_X_y=True)
    x = x.astype("float32") / 16
    return train_test_split(x, y, test_size=500, stratify=y, random_state=0)


def network(*widths, seed):
    keras.utils.set_random_seed(seed)
    hidden = [keras.layers.Dense(width, activation="relu") for width in widths]
    return keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(10)])


def train_teacher():
    x, _, y, _ = load_data()
    teacher = network(256, 256, seed=0)
    teacher.compile("adam", cross_entropy(), metrics=["accuracy"])
    teacher.fit(x, y, batch_size=64, epochs=20, verbose=0)
    return teacher


def build_distiller(teacher, temperature, seed):
    distiller = Distiller(teacher, network(16, seed=seed), KD(temperature))
    distiller.compile(keras.optimizers.SGD(0.02), cross_entropy(), metrics=["accuracy"])
    return distiller


def digits(teacher, arm, seed):
    """Test accuracy, in percent, and the mean of the last epoch's temperatures."""
    x, x_test, y, y_test = load_data()
    if arm == "KD(4.0)":
        # Trained without the samples that the other arms hold out.
        holdout = holdout_indices(len(x), 0.1)
        x, y = np.delete(x, holdout, 0), np.delete(y, holdout, 0)
        temperature = 4.0
    else:
        # "random" is the name of the mode "shuffled" in the files of results.
        mode = "shuffled" if arm == "random" else arm
        temperature = Policy(mode=mode, seed=seed)
    distiller = build_distiller(teacher, temperature, seed)
    history = distiller.fit(x, y, epochs=EPOCHS, batch_size=32, verbose=0).history
    accuracy = 100 * distiller.evaluate(x_test, y_test, verbose=0)[1]
    return {"accuracy": accuracy, "T": float(history["student_temperature"][-1])}


class Clock(keras.callbacks.Callback):
    """Processor and wall-clock time of a step, in each epoch except the first."""

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
    """Milliseconds per step: processor and wall-clock time, medians of nine epochs."""
    x, _, y, _ = load_data()
    clock = Clock()
    distiller = build_distiller(teacher, COSTS[arm](), seed)
    distiller.fit(x, y, epochs=10, batch_size=32, verbose=0, callbacks=[clock])
    processor, wall = 1000 * np.median(clock.times, axis=0)
    return {"processor": processor, "wall": wall}


def mean_and_error(values):
    values = np.asarray(values, "float64")
    return values.mean(), values.std(ddof=1) / np.sqrt(len(values))


def table(header, lines):
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, rule, *lines])


def report_synthetic(runs):
    policy = np.array([run["policy"] for run in runs])
    lines = []
    for arm in map(str, ARMS):
        values = np.array([run[arm] for run in runs])
        name = f"T = {arm}" if arm[0].isdigit() else arm
        reward = "{:.3f} ± {:.3f}".format(*mean_and_error(1000 * values))
        line = [name, reward, "", ""]
        if arm != "policy":
            gain, error = mean_and_error(1000 * (policy - values))
            line[2:] = [f"{gain:+.3f} ± {error:.3f}", f"{gain / error:+.1f}"]
        lines.append(line)
    learned = np.array([run["learned T"] for run in runs])
    names = ("confident and wrong", "less confident and correct", "mean")
    ranges = ", ".join(
        f"{name} {learned[:, i].min():.1f} to {learned[:, i].max():.1f}"
        for i, name in enumerate(names)
    )
    header = [
        "arm",
        "reward per update, 10⁻³ nats",
        "policy minus this arm",
        "in standard errors",
    ]
    return (
        f"## Synthetic, {len(runs)} seeds\n\n{table(header, lines)}\n\n"
        f"Means ± standard errors, of differences within a seed. Temperatures of the "
        f"policies after {LEARN} updates: {ranges}."
    )


def report_digits(runs):
    lines = []

    def values_of(arm, key):
        return np.array([run[key] for run in runs if run["arm"] == arm])

    baseline = values_of(DIGITS_ARMS[0], "accuracy")
    for arm in DIGITS_ARMS:
        accuracy, temperature = values_of(arm, "accuracy"), values_of(arm, "T")
        gain = "{:+.2f} ± {:.2f}".format(*mean_and_error(accuracy - baseline))
        lines.append(
            [
                arm,
                "{:.2f} ± {:.2f}".format(*mean_and_error(accuracy)),
                "" if arm == DIGITS_ARMS[0] else gain,
                "{:.2f} ± {:.2f}".format(*mean_and_error(temperature)),
            ]
        )
    header = ["arm", "test accuracy, %", "minus KD(4.0)", "temperature, last epoch"]
    return f"## Digits, {len(baseline)} seeds\n\n{table(header, lines)}"


def report_cost(runs):
    lines = []
    baseline = {run["seed"]: run for run in runs if run["arm"] == "KD(4.0)"}
    for arm in COSTS:
        of_arm = [run for run in runs if run["arm"] == arm]
        ratio = np.median(
            [run["processor"] / baseline[run["seed"]]["processor"] for run in of_arm]
        )
        medians = [np.median([run[k] for run in of_arm]) for k in ("processor", "wall")]
        lines.append([arm, *(f"{m:.2f}" for m in medians), f"{ratio:.2f}"])
    header = [
        "arm",
        "processor, ms per step",
        "wall, ms per step",
        "processor, relative to KD",
    ]
    return f"## Cost, medians of {len(baseline)} rounds\n\n{table(header, lines)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tasks = ("synthetic", "digits", "cost")
    parser.add_argument("--tasks", nargs="+", choices=tasks, default=tasks)
    parser.add_argument("--seeds", type=int, default=5)
    results = Path(__file__).parent / "results"
    parser.add_argument("--output", type=Path, default=results / "temperature_policy")
    options = parser.parse_args()
    info = environment_info()
    settings = {"learn": LEARN, "updates": UPDATES, "rate": RATE, "epochs": EPOCHS}
    path = options.output.with_suffix(".jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    runs = Runs(path, {**settings, "backend": info["backend"]}, KEYS)
    teacher = None if options.tasks == ["synthetic"] else train_teacher()
    functions = {
        "synthetic": lambda task, arm, seed: synthetic(seed),
        "digits": lambda task, arm, seed: digits(teacher, arm, seed),
        "cost": lambda task, arm, seed: cost(teacher, arm, seed),
    }
    arms = {"synthetic": ["all"], "digits": DIGITS_ARMS, "cost": list(COSTS)}
    sections = [f"# The temperature policy\n\n    {info['command']}"]
    sections.append(
        f"{info['backend']} {info['versions'][info['backend']]}, Keras "
        f"{info['versions']['keras']}, {info['cpu']}, {info['cores']} cores, load "
        f"{info['load']:.1f}."
    )
    reports = (report_synthetic, report_digits, report_cost)
    for task, report in zip(tasks, reports, strict=True):
        if task in options.tasks:
            task_runs = []
            for seed in range(options.seeds):
                for arm in arms[task]:
                    task_runs.append(runs.get((task, arm, seed), functions[task]))
                    print(task_runs[-1], flush=True)
            sections.append(report(task_runs))
    text = "\n\n".join(sections) + "\n"
    options.output.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
