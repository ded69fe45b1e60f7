"""The options shared by `train` and `compare`."""

import argparse
import importlib.util
from pathlib import Path

from keras_dtkd import backend
from keras_dtkd.cli.data import NAMES
from keras_dtkd.cli.errors import UserError

BACKENDS = ("tensorflow", "jax", "torch")


def require_backend(option, name):
    """Raises `UserError` unless the backend that an option names is installed."""
    if importlib.util.find_spec(name) is None:
        raise UserError(f"{option} {name}: it is not installed.")


def _number(convert, is_valid, problem):
    def parse(text):
        if not is_valid(convert(text)):
            raise argparse.ArgumentTypeError(f"{text} is {problem}")
        return convert(text)

    return parse


positive_int = _number(int, lambda n: n >= 1, "not an integer of at least 1")
non_negative_int = _number(int, lambda n: n >= 0, "not an integer of at least 0")
# What NumPy accepts.
seed = _number(int, lambda n: 0 <= n < 2**32, "not an integer in [0, 2**32)")
positive_float = _number(float, lambda x: 0 < x < float("inf"), "not a number above 0")
fraction = _number(float, lambda x: 0 <= x < 1, "not in [0, 1)")


def add_backend(parser, help):
    """Adds `--backend`."""
    parser.add_argument(
        "--backend", choices=BACKENDS, default=backend.backend_name(), help=help
    )


def add_arguments(parser):
    """Adds the options to a parser."""
    add = parser.add_argument
    # fmt: off
    add("--data", choices=NAMES, default="cifar100",
        help="data set (default: cifar100)")
    add("--data-dir", type=Path, metavar="DIR", help="folder of TensorFlow Datasets")
    add("--teacher", metavar="NAME",
        help="network of the teacher, such as resnet32x4: see docs/models.md")
    add("--student", metavar="NAME", required=True,
        help="network of the student, such as resnet8x4")
    add("--teacher-weights", type=Path, metavar="FILE",
        help="the trained teacher: the folder of a finished `train --method ce`, or a "
        ".keras, .weights.h5 or .npz file")
    add("--epochs", type=positive_int, metavar="N",
        help="the recipe's schedule is scaled to them (default: the recipe's)")
    add("--batch-size", type=positive_int, metavar="N", help="instead of the recipe's")
    add("--learning-rate", type=positive_float, metavar="X",
        help="initial learning rate, instead of the recipe's")
    add("--warmup", type=non_negative_int, metavar="N",
        help="epochs until the distillation losses have their full weight, for methods "
        "with a warm-up, instead of the recipe's")
    add("--precision", choices=("float32", "bfloat16", "float16"), default="float32",
        help="compute dtype of the networks; weights stay float32")
    add("--validation", type=fraction, default=0.0, metavar="FRACTION",
        help="fraction of the training images on which the best epoch is chosen; with "
        "0 it is chosen on the test images, as in the literature")
    add("--train-size", type=positive_int, metavar="N",
        help="train on N images only, the same ones in every run")
    add("--augmentations-per-image", type=positive_int, metavar="N",
        help="crop and flip each image in N fixed ways only; compute the teacher's "
        "outputs once and store them: for a teacher too slow to run in every epoch")
    add("--no-augment", action="store_true", help="no crops and flips")
    add("--deterministic", action="store_true",
        help="deterministic operations only, also on a GPU")
    add("--tensorboard", action="store_true", help="write logs for TensorBoard")
    add("--output", type=Path, default=Path("runs"), metavar="DIR",
        help="folder of all runs (default: runs)")
    # fmt: on
