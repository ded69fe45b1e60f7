"""Comparative KD where teacher calls are few, against KL, logit matching and labels.

The setting is that of Wilf et al., "Comparative Knowledge Distillation", arXiv
2311.02253, on scikit-learn's digits: the teacher answers N images once, and the student
has these answers and the labels of the same images. Each seed draws its own N images.
The learning rate is chosen for each method and N on 300 validation images with three
other seeds, from a grid that grows until the best lies inside. Only the students of the
test seeds read the test. Stopped, it goes on where it was.
"""

import argparse
import itertools
from pathlib import Path

import keras
import numpy as np
from machine import circumstances
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
    """The teacher's images, those that choose the learning rate, those of the test."""
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
        path: Their file.
        calls: Numbers of teacher calls to compare.
        seeds: Those that read the test.
        teacher_epochs: The longer, the larger the teacher's logits.
        momentum: Of the students' SGD.
        steps: Of each student.
    """

    def __init__(self, path, calls, seeds, teacher_epochs, momentum, steps=STEPS):
        self.calls, self.seeds = calls, seeds
        self.momentum, self.steps = momentum, steps
        self.data = data()
        self.teacher = new_teacher(*self.data["pool"], teacher_epochs)
        settings = {
            "teacher": teachers.weights_fingerprint(self.teacher),
            "momentum": momentum,
            "steps": steps,
            "batch_size": BATCH_SIZE,
        }
        self.circumstances = circumstances()
        settings |= {key: self.circumstances[key] for key in ("backend", "versions")}
        self.runs = Runs(path, settings, KEYS)

    def train(self, calls, method, rate, split, seed):
        """One student: its accuracy on the split."""
        keras.utils.clear_session()
        keras.utils.set_random_seed(seed)
        draw = np.random.default_rng(seed)
        images, labels = self.data["pool"]
        few = draw.choice(len(images), calls, replace=False)
        # One `fit` epoch of whole passes, each in an order of its own.
        passes = -(-self.steps * BATCH_SIZE // calls)
        order = np.concatenate([draw.permutation(few) for _ in range(passes)])
        order = order[: self.steps * BATCH_SIZE]
        student = network(32, 32)
        student.compile(keras.optimizers.SGD(rate, self.momentum), cross_entropy())
        model = student
        if METHODS[method] is not None:
            kind, arguments, task_weight = METHODS[method]
            loss = kind(**arguments)
            model = Distiller(self.teacher, student, loss, task_weight=task_weight)
        model.fit(
            images[order],
            labels[order],
            batch_size=BATCH_SIZE,
            shuffle=False,
            verbose=0,
        )
        if "calibrated" in method and np.isfinite(student.get_weights()[-1]).all():
            answers = self.teacher.predict(images[few], verbose=0)
            target = loss.optimal_logits(answers, labels[few])
            losses.calibrate_output_bias(student, images[few], target)
        return {"accuracy": round(accuracy(student, *self.data[split]), 2)}

    def accuracies(self, *key, seeds):
        values = []
        for seed in seeds:
            values.append(self.runs.get((*key, seed), self.train)["accuracy"])
            self.bar.add(1)
        return np.array(values)

    def best_rate(self, calls, method):
        """By mean validation accuracy; of equal ones the smallest."""
        means, tried = {}, RATES[1:5]
        while tried:
            for rate in tried:
                key = (calls, method, rate, "validation")
                means[rate] = self.accuracies(*key, seeds=VALIDATION_SEEDS).mean()
            place = RATES.index(max(sorted(means), key=lambda rate: means[rate]))
            beside = RATES[max(place - 1, 0) : place + 2]
            tried = [rate for rate in beside if rate not in means]
            self.bar.target += len(tried) * len(VALIDATION_SEEDS)
        return RATES[place]

    def run(self):
        """For each number of calls and method: the rate, and the test accuracies."""
        jobs = list(itertools.product(self.calls, METHODS))
        each = 4 * len(VALIDATION_SEEDS) + len(self.seeds)
        self.bar = keras.utils.Progbar(len(jobs) * each, unit_name="run")
        results = {}
        for calls, method in jobs:
            rate = self.best_rate(calls, method)
            key = (calls, method, rate, "test")
            results[calls, method] = rate, self.accuracies(*key, seeds=self.seeds)
        return results


def table(results, seeds):
    """Markdown; differences are paired, of students with the same seed and images."""
    yield "| calls | method | accuracy, % | less CE + KL | less logit MSE | rate |"
    yield "|---|---|---|---|---|---|"
    for (calls, method), (rate, values) in results.items():
        cells = [f"{values.mean():.2f} ± {values.std(ddof=1):.2f}"]
        for other in ("CE + KL (T = 4)", "logit MSE"):
            d = values - results[calls, other][1]
            error = d.std(ddof=1) / np.sqrt(len(seeds))
            cells.append(
                "" if method == other else f"{d.mean():+.2f} ± {error:.2f}",
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
    parser.add_argument("--name", default="few_teacher_calls", help="of the files")
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
    at = study.circumstances
    logits = study.teacher.predict(study.data["pool"][0], verbose=0)
    lines = [
        f"`{at['command']}`; {at['cpu']}, {at['cores']} cores; {at['versions']}.",
        "",
        f"Test accuracy over {options.seeds} seeds, mean ± standard deviation; paired "
        "differences, mean ± standard error. The teacher: "
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
