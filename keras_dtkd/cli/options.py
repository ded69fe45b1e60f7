"""The options shared by `train` and `compare`."""

import argparse
import importlib.util
from pathlib import Path

from keras_dtkd import backend, recipes
from keras_dtkd.cli.data import FOLDER, IMAGE_SIZE, NAMES, is_known
from keras_dtkd.cli.errors import UserError
from keras_dtkd.core.user_code import is_reference

BACKENDS = ("tensorflow", "jax", "torch")


def require_backend(option, name):
    """Raises `UserError` unless the backend that an option names is installed."""
    if importlib.util.find_spec(name) is None:
        raise UserError(f"{option} {name}: it is not installed.")


def _number(convert, is_valid, problem):
    def parse(text):
        try:
            value = convert(text)
        except ValueError:
            value = None
        if value is None or not is_valid(value):
            raise argparse.ArgumentTypeError(f"{text} is {problem}")
        return value

    return parse


positive_int = _number(int, lambda n: n >= 1, "not an integer of at least 1")
non_negative_int = _number(int, lambda n: n >= 0, "not an integer of at least 0")
# What NumPy accepts.
seed = _number(int, lambda n: 0 <= n < 2**32, "not an integer in [0, 2**32)")
positive_float = _number(float, lambda x: 0 < x < float("inf"), "not a number above 0")
fraction = _number(float, lambda x: 0 <= x < 1, "not in [0, 1)")


def data_name(text):
    """The name of a data set, or `folder:PATH`."""
    path = Path(text.removeprefix(FOLDER))
    if text.startswith(FOLDER) and not (path / "train").is_dir():
        raise argparse.ArgumentTypeError(
            f"{path}/train does not exist: images lie in PATH/train/<class>/ and "
            "PATH/val/<class>/"
        )
    if not is_known(text):
        known = ", ".join(NAMES)
        raise argparse.ArgumentTypeError(f"{text} is none of {known}, folder:PATH")
    return text


def method(text):
    """The name of a method, or a loss of the user's own: `my.py:Squared`."""
    if text not in recipes.methods() and not is_reference(text):
        known = ", ".join(recipes.methods())
        raise argparse.ArgumentTypeError(f"{text} is none of {known}, my.py:Squared")
    return text


def code(text):
    """A function in a file of the user's own: `my.py:build`."""
    if not is_reference(text):
        raise argparse.ArgumentTypeError(f"{text} is not of the form my.py:build")
    return text


def add_backend(parser, help):
    """Adds `--backend`."""
    parser.add_argument(
        "--backend", choices=BACKENDS, default=backend.backend_name(), help=help
    )


def add_arguments(parser):
    """Adds the options to a parser."""
    add = parser.add_argument
    # fmt: off
    add("--data", type=data_name, default="cifar100", metavar="NAME",
        help=f"{', '.join(NAMES)}, or folder:PATH with train/<class>/ and val/<class>/ "
        "(default: cifar100)")
    add("--image-size", type=positive_int, metavar="N",
        help="height and width to which images of a folder are brought (default: "
        f"{IMAGE_SIZE})")
    add("--data-dir", type=Path, metavar="DIR", help="folder of TensorFlow Datasets")
    add("--teacher", metavar="NAME",
        help="network of the teacher, such as resnet32x4 (see docs/models.md), or of "
        "your own: my.py:build, called as build(input_shape, num_classes)")
    add("--student", metavar="NAME", required=True,
        help="network of the student, such as resnet8x4, or my.py:build")
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
    add("--torch-compile", action="store_true",
        help="under PyTorch, compile both networks from the first step on: about twice "
        "as fast, after up to a minute in each start of a run")
    add("--tensorboard", action="store_true", help="write logs for TensorBoard")
    add("--output", type=Path, default=Path("runs"), metavar="DIR",
        help="folder of all runs (default: runs)")
    # fmt: on
