"""The options that `train` and `compare` share."""

import argparse
import importlib.util
from pathlib import Path
from typing import Any

from keras_dtkd.cli.data import NAMES
from keras_dtkd.cli.errors import UserError

BACKENDS = ("tensorflow", "jax", "torch")
PRECISIONS = ("float32", "bfloat16", "float16")


def check_backend(option, name):
    """Refuses a backend that is not installed.

    Args:
        option: The one that asks for it, for the message.
        name: Of the backend.

    Raises:
        Refused: It is not.
    """
    if importlib.util.find_spec(name) is None:
        raise UserError(f"{option} {name}: it is not installed.")


def whole(text):
    """A whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


def count(text):
    """A whole number of at least 0."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return number


def seed(text):
    """A whole number that NumPy takes as a seed."""
    number = count(text)
    if number >= 2**32:
        raise argparse.ArgumentTypeError(f"{text} is not below 2**32")
    return number


def positive(text):
    """A number above 0."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def share(text):
    """A number from 0 up to, not including, 1."""
    number = float(text)
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not in [0, 1)")
    return number


OPTIONS: dict[str, dict[str, Any]] = {
    "--data": {
        "choices": NAMES,
        "default": "cifar100",
        "help": "data set (default: cifar100)",
    },
    "--data-dir": {
        "type": Path,
        "metavar": "DIR",
        "help": "folder of TensorFlow Datasets",
    },
    "--teacher": {
        "metavar": "NAME",
        "help": "network of the teacher, as resnet32x4: see docs/models.md",
    },
    "--student": {
        "metavar": "NAME",
        "required": True,
        "help": "network of the student, as resnet8x4",
    },
    "--teacher-weights": {
        "type": Path,
        "metavar": "FILE",
        "help": "the trained teacher: a folder that `train --method ce` has filled, or "
        "a .keras, .weights.h5 or .npz file",
    },
    "--epochs": {
        "type": whole,
        "metavar": "N",
        "help": "epochs; the recipe's schedule is scaled to them (default: its own)",
    },
    "--batch-size": {"type": whole, "metavar": "N", "help": "instead of the recipe's"},
    "--learning-rate": {
        "type": positive,
        "metavar": "X",
        "help": "at the start, instead of the recipe's",
    },
    "--warmup": {
        "type": count,
        "metavar": "N",
        "help": "epochs until the distillation losses have their full weight, of the "
        "methods that have a warm-up, instead of the recipe's",
    },
    "--precision": {
        "choices": PRECISIONS,
        "default": "float32",
        "help": "what the networks compute in; weights stay float32",
    },
    "--validation": {
        "type": share,
        "default": 0.0,
        "metavar": "SHARE",
        "help": "share of the training images to choose the best epoch on; with 0 it "
        "is chosen on the test images, as the literature does",
    },
    "--train-size": {
        "type": whole,
        "metavar": "N",
        "help": "train on N images only, always the same ones",
    },
    "--versions": {
        "type": whole,
        "metavar": "N",
        "help": "crop and flip each image in N ways only, ask the teacher about all of "
        "them once and keep its answers: for a teacher too slow to run in every epoch",
    },
    "--no-augment": {"action": "store_true", "help": "no crops and flips"},
    "--deterministic": {
        "action": "store_true",
        "help": "only operations that give the same bits each time, also on a GPU",
    },
    "--tensorboard": {"action": "store_true", "help": "logs for TensorBoard too"},
    "--output": {
        "type": Path,
        "default": Path("runs"),
        "metavar": "DIR",
        "help": "folder of all runs (default: runs)",
    },
}


def add(parser):
    """Adds them to a parser."""
    for name, how in OPTIONS.items():
        parser.add_argument(name, **how)


def words(args):
    """The command line that gives these options again."""
    found = []
    for name, how in OPTIONS.items():
        value = getattr(args, name[2:].replace("-", "_"))
        if how.get("action") == "store_true":
            found += [name] if value else []
        elif value is not None:
            found += [name, str(value)]
    return found
