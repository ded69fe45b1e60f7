"""Our attacks beside those of two PyTorch libraries, on one model.

A small CNN learns scikit-learn's digits, then PGD-20 (step 2ε/20, random starts) of
keras_dtkd, foolbox and torchattacks attacks the same 500 images. Each library draws its
own starts. FGSM, MI-FGSM and PGD from the images themselves draw nothing: there the
adversarial images are compared number by number.

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


def trained(seed, x, y):
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


class First(torch.nn.Module):
    """The Keras model for images with channels first."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x.permute(0, 2, 3, 1), training=False)


def by_foolbox(attack, model, x, y, epsilon):
    wrapped = foolbox.PyTorchModel(First(model).eval(), bounds=(0, 1))
    images = torch.tensor(x).permute(0, 3, 1, 2)
    found, _, _ = attack(wrapped, images, torch.tensor(y), epsilons=epsilon)
    return found.permute(0, 2, 3, 1).detach().numpy()


def by_torchattacks(attack, model, x, y, **options):
    attack = attack(First(model).eval(), **options)
    found = attack(torch.tensor(x).permute(0, 3, 1, 2), torch.tensor(y))
    return found.permute(0, 2, 3, 1).detach().numpy()


def pgd_of_all(model, x, y, epsilon, random_start):
    """A function of a seed for each library."""
    step = 2 * epsilon / STEPS
    theirs = foolbox.attacks.LinfProjectedGradientDescentAttack(
        abs_stepsize=step, steps=STEPS, random_start=random_start
    )
    options = {"eps": epsilon, "alpha": step, "steps": STEPS}
    return {
        "keras_dtkd": lambda seed: attacks.pgd(
            model, x, y, epsilon, steps=STEPS, random_start=random_start, seed=seed
        ),
        "foolbox": lambda seed: by_foolbox(theirs, model, x, y, epsilon),
        "torchattacks": lambda seed: by_torchattacks(
            torchattacks.PGD, model, x, y, random_start=random_start, **options
        ),
    }


def right(model, x, y):
    return model.predict(x, batch_size=500, verbose=0).argmax(-1) == y


def robust(model, x, y, epsilon, restarts):
    """Robust accuracy after each start, in percent, and seconds, by library."""
    found = {}
    # Else the two PyTorch libraries would draw the same starts.
    for first, (name, attack) in enumerate(
        pgd_of_all(model, x, y, epsilon, True).items()
    ):
        stood, accuracies = right(model, x, y), []
        begin = time.process_time()
        for start in range(restarts):
            torch.manual_seed(1000 * first + start)
            stood &= right(model, attack(start), y)
            accuracies.append(round(100 * float(stood.mean()), 2))
        seconds = round(time.process_time() - begin, 2)
        found[name] = {"after_each_start": accuracies, "cpu_seconds": seconds}
    # All starts in one call, which leaves fallen samples alone.
    begin = time.process_time()
    ours = attacks.robust_accuracy(
        model, x, y, epsilon, steps=STEPS, restarts=restarts, seed=0
    )
    found["keras_dtkd"]["restarts_in_one_call"] = round(100 * ours.robust, 2)
    seconds = round(time.process_time() - begin, 2)
    found["keras_dtkd"]["cpu_seconds_in_one_call"] = seconds
    return found


def share_of_equal_images(model, x, y, epsilon):
    """Without chance: how many images are the same to 1e-5, in percent."""
    pgd = {n: f(0) for n, f in pgd_of_all(model, x, y, epsilon, False).items()}
    fgsm = attacks.fgsm(model, x, y, epsilon)
    ours = attacks.di2_fgsm(model, x, y, epsilon, steps=10, diversity=0)
    options = {"eps": epsilon, "alpha": epsilon / 10, "steps": 10, "decay": 1.0}
    pairs = {
        "PGD, foolbox": (pgd["keras_dtkd"], pgd["foolbox"]),
        "PGD, torchattacks": (pgd["keras_dtkd"], pgd["torchattacks"]),
        "FGSM, foolbox": (
            fgsm,
            by_foolbox(foolbox.attacks.LinfFastGradientAttack(), model, x, y, epsilon),
        ),
        "MI-FGSM, torchattacks": (
            ours,
            by_torchattacks(torchattacks.MIFGSM, model, x, y, **options),
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
        model = trained(seed, x_train, y_train)
        clean = round(100 * float(right(model, x, y).mean()), 2)
        for epsilon in EPSILONS:
            found = robust(model, x, y, epsilon, options.restarts)
            last = [library["after_each_start"][-1] for library in found.values()]
            last.append(found["keras_dtkd"]["restarts_in_one_call"])
            largest = max(largest, max(last) - min(last))
            equal = share_of_equal_images(model, x, y, epsilon)
            results.append(
                {
                    "seed": seed,
                    "epsilon": epsilon,
                    "clean": clean,
                    "robust": found,
                    "equal_images": equal,
                }
            )
            for name, library in found.items():
                values = ", ".join(f"{v:.1f}" for v in library["after_each_start"])
                print(f"| {seed} | {epsilon} | {clean} | {name} | {values} |")
            print(f"<!-- equal images, %: {equal} -->")
    at = environment_info()
    for package in ("foolbox", "torchattacks"):
        at["versions"][package] = importlib.metadata.version(package)
    print(f"\nLargest difference after all starts: {largest:.2f} points.")
    whole = {**at, "largest_difference": round(largest, 2), "results": results}
    options.output.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
