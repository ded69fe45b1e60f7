"""Whole data sets in memory, in their own order."""

import numpy as np

from keras_dtkd.datasets.checks import check_share
from keras_dtkd.datasets.tfds import open_tfds

NAMES = ("cifar10", "cifar100", "fashion_mnist", "digits")


def load_arrays(name, data_dir=None, *, validation=0.0, download=True):
    """A data set as NumPy arrays, always in the same order.

    A row number names an image for good: what a teacher says of row 7 can be stored.
    TensorFlow is not needed where the data is prepared as ArrayRecord.

    Args:
        name: `"cifar10"`, `"cifar100"`, `"fashion_mnist"` or `"digits"`.
        data_dir: Folder of TensorFlow Datasets. Its own default if `None`.
        validation: Share of the training images to set apart, from 0 up to, not
            including, 1. Always the same ones.
        download: Whether TensorFlow Datasets may download what is missing.

    Returns:
        `(x_train, y_train), (x_test, y_test)`, and with a validation share
        `(x_train, y_train), (x_validation, y_validation), (x_test, y_test)`. Images
        are `uint8` from 0 to 255, `(images, height, width, channels)`; labels `int32`.

    Raises:
        ValueError: No such name; a share out of range, or one that leaves a part empty.
        ImportError: A package is not installed that reads this data set.
        FileNotFoundError: The data set is not there, with the ways to get it.

    Example:

    >>> (x_train, y_train), (x_test, y_test) = load_arrays("digits")
    """
    if name not in NAMES:
        raise ValueError(f"`arrays`: no data set {name!r}. Choose one of {NAMES}.")
    check_share("arrays", validation)
    if name == "digits":
        train, test = _digits()
    else:
        train, test = (open_tfds(name, data_dir, download)(s) for s in _SPLITS)
    return *split(train, validation), test


_SPLITS = ("train", "test")


def split(train, validation):
    """`[(x, y)]`, or with a validation share `[(x, y), (x_val, y_val)]`, in order."""
    if not validation:
        return [train]
    x, y = train
    # Whatever seed an experiment has, nobody trains on another's validation images;
    # and this generator, unlike NumPy's newer ones, is frozen for good.
    rows = np.random.RandomState(0).permutation(len(x))
    count = round(validation * len(x))
    if not 0 < count < len(x):
        raise ValueError(
            f"`validation`: a share of {validation} of {len(x)} training images is "
            f"{count} of them. Both parts need one: give another share, or 0 for no "
            "validation images."
        )
    return [(x[r], y[r]) for r in (np.sort(rows[count:]), np.sort(rows[:count]))]


def _digits():
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise ImportError(
            "`digits` come with scikit-learn, which is not installed: "
            "pip install scikit-learn"
        ) from None
    images, labels = load_digits(return_X_y=True)
    # From 17 shades to the 256 that all others have.
    images = np.rint(images * (255 / 16)).astype("uint8").reshape(-1, 8, 8, 1)
    x_train, x_test, y_train, y_test = train_test_split(
        images, labels.astype("int32"), test_size=500, stratify=labels, random_state=0
    )
    return (x_train, y_train), (x_test, y_test)
