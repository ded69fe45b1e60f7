"""Agreement of keras_dtkd's attacks with those of two PyTorch libraries.

PGD-20 (step 2ε/20, random starts) of keras_dtkd, foolbox and torchattacks attacks a
small CNN, trained on scikit-learn's digits, on the same 500 images. Each library has
its own random starts. FGSM, MI-FGSM and PGD without a random start are deterministic:
their adversarial images are compared element by element.

    pip install foolbox
    pip install --no-deps torchattacks tqdm requests  # it pins an old requests
    KERAS_BACKEND=torch python benchmarks/attack_agreement.py
"""

import argparse
import importlib.metadata
import json
import time
from pathlib import Path

import foolbox
import keras
import numpy as np
import torch
import torchattacks
from machine import environment_info
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_dtkd import attacks

EPSILONS, STEPS = (0.05, 0.10), 20


def data():
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype("float32").reshape(-1, 8, 8, 1)
    return train_test_split(
        images, labels, test_size=500, stratify=labels, random_state=0
    )


def train_classifier(seed, x, y):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, batch_size=64, epochs=30, verbose=0)
    return model


class ChannelsFirst(torch.nn.Module):
    """The Keras model, for images `(batch, channels, height, width)`."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x.permute(0, 2, 3, 1), training=False)


def run_foolbox(attack, model, x, y, epsilon):
    wrapped = foolbox.PyTorchModel(ChannelsFirst(model).eval(), bounds=(0, 1))
    images = torch.tensor(x).permute(0, 3, 1, 2)
    x_adv, _, _ = attack(wrapped, images, torch.tensor(y), epsilons=epsilon)
    return x_adv.permute(0, 2, 3, 1).detach().cpu().numpy()


def run_torchattacks(attack, model, x, y, **options):
    attack = attack(ChannelsFirst(model).eval(), **options)
    x_adv = attack(torch.tensor(x).permute(0, 3, 1, 2), torch.tensor(y))
    return x_adv.permute(0, 2, 3, 1).detach().cpu().numpy()


def pgd_by_library(model, x, y, epsilon, random_start):
    """PGD of each library, as a function of a seed."""
    step = 2 * epsilon / STEPS
    foolbox_pgd = foolbox.attacks.LinfProjectedGradientDescentAttack(
        abs_stepsize=step, steps=STEPS, random_start=random_start
    )
    options = {"eps": epsilon, "alpha": step, "steps": STEPS}
    return {
        "keras_dtkd": lambda seed: attacks.pgd(
            model, x, y, epsilon, steps=STEPS, random_start=random_start, seed=seed
        ),
        "foolbox": lambda seed: run_foolbox(foolbox_pgd, model, x, y, epsilon),
        "torchattacks": lambda seed: run_torchattacks(
            torchattacks.PGD, model, x, y, random_start=random_start, **options
        ),
    }


def is_correct(model, x, y):
    return model.predict(x, batch_size=500, verbose=0).argmax(-1) == y


def robust_accuracies(model, x, y, epsilon, restarts):
    """Robust accuracy in percent after each start, and seconds, by library."""
    results = {}
    # A seed for each library: with one, the PyTorch libraries sample the same starts.
    for index, (name, attack) in enumerate(
        pgd_by_library(model, x, y, epsilon, True).items()
    ):
        is_robust, accuracies = is_correct(model, x, y), []
        start_time = time.process_time()
        for start in range(restarts):
            torch.manual_seed(1000 * index + start)
            is_robust &= is_correct(model, attack(start), y)
            accuracies.append(round(100 * float(is_robust.mean()), 2))
        seconds = round(time.process_time() - start_time, 2)
        results[name] = {"after_each_start": accuracies, "cpu_seconds": seconds}
    # All starts in one call, which does not attack misled samples again.
    start_time = time.process_time()
    result = attacks.robust_accuracy(
        model, x, y, epsilon, steps=STEPS, restarts=restarts, seed=0
    )
    results["keras_dtkd"]["restarts_in_one_call"] = round(
        100 * result.robust_accuracy, 2
    )
    seconds = round(time.process_time() - start_time, 2)
    results["keras_dtkd"]["cpu_seconds_in_one_call"] = seconds
    return results


def equal_images(model, x, y, epsilon):
    """Percentage of images equal to 1e-5, for attacks without random numbers."""
    pgd = {n: f(0) for n, f in pgd_by_library(model, x, y, epsilon, False).items()}
    fgsm = attacks.fgsm(model, x, y, epsilon)
    mi_fgsm = attacks.di2_fgsm(model, x, y, epsilon, steps=10, diversity=0)
    options = {"eps": epsilon, "alpha": epsilon / 10, "steps": 10, "decay": 1.0}
    pairs = {
        "PGD, foolbox": (pgd["keras_dtkd"], pgd["foolbox"]),
        "PGD, torchattacks": (pgd["keras_dtkd"], pgd["torchattacks"]),
        "FGSM, foolbox": (
            fgsm,
            run_foolbox(foolbox.attacks.LinfFastGradientAttack(), model, x, y, epsilon),
        ),
        "MI-FGSM, torchattacks": (
            mi_fgsm,
            run_torchattacks(torchattacks.MIFGSM, model, x, y, **options),
        ),
    }
    return {
        name: round(
            100 * float((np.abs(a - b) < 1e-5).reshape(len(x), -1).all(-1).mean()), 2
        )
        for name, (a, b) in pairs.items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--restarts", type=int, default=10)
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).parent / "results" / "attack_agreement.json",
    )
    options = parser.parse_args()
    x_train, x, y_train, y = data()
    results, largest = [], 0.0
    print("| seed | ε | clean | library | after each start, % |\n|---|---|---|---|---|")
    for seed in range(options.seeds):
        model = train_classifier(seed, x_train, y_train)
        clean = round(100 * float(is_correct(model, x, y).mean()), 2)
        for epsilon in EPSILONS:
            by_library = robust_accuracies(model, x, y, epsilon, options.restarts)
            last = [library["after_each_start"][-1] for library in by_library.values()]
            last.append(by_library["keras_dtkd"]["restarts_in_one_call"])
            largest = max(largest, max(last) - min(last))
            equal = equal_images(model, x, y, epsilon)
            results.append(
                {
                    "seed": seed,
                    "epsilon": epsilon,
                    "clean": clean,
                    "robust": by_library,
                    "equal_images": equal,
                }
            )
            for name, library in by_library.items():
                values = ", ".join(f"{v:.1f}" for v in library["after_each_start"])
                print(f"| {seed} | {epsilon} | {clean} | {name} | {values} |")
            print(f"<!-- equal images, %: {equal} -->")
    at = environment_info()
    for package in ("foolbox", "torchattacks"):
        at["versions"][package] = importlib.metadata.version(package)
    print(f"\nLargest difference after all starts: {largest:.2f} points.")
    report = {**at, "largest_difference": round(largest, 2), "results": results}
    options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
