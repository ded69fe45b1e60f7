"""Comparative KD with few teacher calls, compared with KL, logit matching and labels.

The setting is that of Wilf et al., "Comparative Knowledge Distillation", arXiv
2311.02253, on scikit-learn's digits: the teacher's outputs for N images are computed
once, and the student is trained on these outputs and the labels of the same images.
Each seed draws its own N images. The learning rate is chosen for each method and N on
300 validation images with three other seeds, from a grid that is extended until the
best one lies inside. Only the students of the test seeds are evaluated on the test
images. If it is interrupted, the same command resumes it.
"""

import argparse
import itertools
from pathlib import Path

import keras
import numpy as np
from machine import environment_info
from runs import Runs
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_dtkd import Distiller, losses, teachers

STEPS, BATCH_SIZE = 2000, 30
RATES = [0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3]
VALIDATION_SEEDS = [1000, 1001, 1002]
METHODS = {
    "labels alone": None,
    "CE + KL (T = 4)": (losses.KD, {}, 1.0),
    "KL (T = 4)": (losses.KD, {}, 0.0),
    "logit MSE": (losses.LogitMSE, {}, 0.0),
    "CKD": (losses.CKD, {}, 0.0),
    "CKD, calibrated": (losses.CKD, {}, 0.0),
    "CKD without labels, calibrated": (losses.CKD, {"label_weight": 0.0}, 0.0),
    "CKD without labels, mean penalty": (
        losses.CKD,
        {"label_weight": 0.0, "mean_penalty": 0.1},
        0.0,
    ),
}
KEYS = ("calls", "method", "learning_rate", "split", "seed")


def data():
    """The teacher's training images, the validation images and the test images."""
    images, labels = load_digits(return_X_y=True)
    images = images.astype("float32") / 16
    x, x_test, y, y_test = train_test_split(
        images, labels, test_size=500, stratify=labels, random_state=0
    )
    return {
        "pool": (x[300:], y[300:]),
        "validation": (x[:300], y[:300]),
        "test": (x_test, y_test),
    }


def network(*widths):
    hidden = [keras.layers.Dense(width, activation="relu") for width in widths]
    return keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(10)])


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def new_teacher(images, labels, epochs):
    keras.utils.set_random_seed(0)
    teacher = network(256, 256)
    teacher.compile("adam", cross_entropy())
    teacher.fit(images, labels, batch_size=64, epochs=epochs, verbose=0)
    return teacher


def accuracy(model, images, labels):
    return 100 * float((model.predict(images, verbose=0).argmax(-1) == labels).mean())


class Study:
    """All runs of one setting.

    Args:
        path: The file of the runs.
        calls: Numbers of teacher calls to compare.
        seeds: Seeds of the students that are evaluated on the test images.
        teacher_epochs: Epochs of the teacher. More epochs give larger logits.
        momentum: Momentum of the students' SGD.
        steps: Training steps of each student.
    """

    def __init__(self, path, calls, seeds, teacher_epochs, momentum, steps=STEPS):
        self.calls, self.seeds = calls, seeds
        self.momentum, self.steps = momentum, steps
        self.data = data()
        self.teacher = new_teacher(*self.data["pool"], teacher_epochs)
        settings = {
            "teacher": teachers.model_fingerprint(self.teacher),
            "momentum": momentum,
            "steps": steps,
            "batch_size": BATCH_SIZE,
        }
        self.environment = environment_info()
        settings |= {key: self.environment[key] for key in ("backend", "versions")}
        self.runs = Runs(path, settings, KEYS)

    def train(self, calls, method, rate, split, seed):
        """Trains one student. Returns its accuracy on the split."""
        keras.utils.clear_session()
        keras.utils.set_random_seed(seed)
        rng = np.random.default_rng(seed)
        images, labels = self.data["pool"]
        few = rng.choice(len(images), calls, replace=False)
        # One `fit` epoch of several passes, each in its own random order.
        passes = -(-self.steps * BATCH_SIZE // calls)
        order = np.concatenate([rng.permutation(few) for _ in range(passes)])
        order = order[: self.steps * BATCH_SIZE]
        student = network(32, 32)
        student.compile(keras.optimizers.SGD(rate, self.momentum), cross_entropy())
        model = student
        if METHODS[method] is not None:
            loss_class, arguments, task_weight = METHODS[method]
            loss = loss_class(**arguments)
            model = Distiller(self.teacher, student, loss, task_weight=task_weight)
        model.fit(
            images[order],
            labels[order],
            batch_size=BATCH_SIZE,
            shuffle=False,
            verbose=0,
        )
        if "calibrated" in method and np.isfinite(student.get_weights()[-1]).all():
            teacher_logits = self.teacher.predict(images[few], verbose=0)
            target = loss.optimal_logits(teacher_logits, labels[few])
            losses.calibrate_output_bias(student, images[few], target)
        return {"accuracy": round(accuracy(student, *self.data[split]), 2)}

    def accuracies(self, *key, seeds):
        values = []
        for seed in seeds:
            values.append(self.runs.get((*key, seed), self.train)["accuracy"])
            self.progress.add(1)
        return np.array(values)

    def best_rate(self, calls, method):
        """By mean validation accuracy; the smallest one in a tie."""
        means, candidates = {}, RATES[1:5]
        while candidates:
            for rate in candidates:
                key = (calls, method, rate, "validation")
                means[rate] = self.accuracies(*key, seeds=VALIDATION_SEEDS).mean()
            index = RATES.index(max(sorted(means), key=lambda rate: means[rate]))
            neighbors = RATES[max(index - 1, 0) : index + 2]
            candidates = [rate for rate in neighbors if rate not in means]
            self.progress.target += len(candidates) * len(VALIDATION_SEEDS)
        return RATES[index]

    def run(self):
        """For each number of calls and method: the rate, and the test accuracies."""
        jobs = list(itertools.product(self.calls, METHODS))
        runs_per_job = 4 * len(VALIDATION_SEEDS) + len(self.seeds)
        self.progress = keras.utils.Progbar(len(jobs) * runs_per_job, unit_name="run")
        results = {}
        for calls, method in jobs:
            rate = self.best_rate(calls, method)
            key = (calls, method, rate, "test")
            results[calls, method] = rate, self.accuracies(*key, seeds=self.seeds)
        return results


def table(results, seeds):
    """Markdown; differences are between students with the same seed and images."""
    yield "| calls | method | accuracy, % | minus CE + KL | minus logit MSE | rate |"
    yield "|---|---|---|---|---|---|"
    for (calls, method), (rate, values) in results.items():
        cells = [f"{values.mean():.2f} ± {values.std(ddof=1):.2f}"]
        for reference in ("CE + KL (T = 4)", "logit MSE"):
            d = values - results[calls, reference][1]
            error = d.std(ddof=1) / np.sqrt(len(seeds))
            cells.append(
                "" if method == reference else f"{d.mean():+.2f} ± {error:.2f}",
            )
        yield f"| {calls} | {method} | {' | '.join(cells)} | {rate:g} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, nargs="+", default=[30, 120])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results"
    )
    parser.add_argument("--teacher-epochs", type=int, default=300)
    parser.add_argument("--momentum", type=float, default=0.0)
    parser.add_argument(
        "--name", default="few_teacher_calls", help="base name of the files"
    )
    options = parser.parse_args()
    path = options.output / options.name
    study = Study(
        path.with_suffix(".jsonl"),
        options.calls,
        range(options.seeds),
        options.teacher_epochs,
        options.momentum,
    )
    results = study.run()
    info = study.environment
    logits = study.teacher.predict(study.data["pool"][0], verbose=0)
    lines = [
        f"`{info['command']}`; {info['cpu']}, {info['cores']} cores; "
        f"{info['versions']}.",
        "",
        f"Test accuracy over {options.seeds} seeds, mean ± standard deviation; paired "
        "differences, mean ± standard error. Teacher: "
        f"{accuracy(study.teacher, *study.data['test']):.1f} %, standard deviation of "
        f"its logits {logits.std():.1f}.",
        "",
        *table(results, study.seeds),
        "",
    ]
    text = "\n".join(lines)
    print(f"\n{text}")
    path.with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
