"""Whole data sets in memory, always in the same order."""

import numpy as np

from keras_dtkd.core.arguments import check_in_range
from keras_dtkd.datasets.folder_arrays import load_folder
from keras_dtkd.datasets.tfds import load_tfds

DATASET_NAMES = ("cifar10", "cifar100", "fashion_mnist", "digits")


def load_arrays(name, data_dir=None, *, validation=0.0, download=True, image_size=64):
    """Loads a data set as NumPy arrays, always in the same order.

    The index of an image identifies it permanently, so a teacher's outputs can be
    stored by index. TensorFlow is not needed where the data is prepared as
    ArrayRecord.

    Args:
        name: `"cifar10"`, `"cifar100"`, `"fashion_mnist"` or `"digits"`; or
            `"folder:PATH"`, images as `image_folder` reads them.
        data_dir: Folder of TensorFlow Datasets. `None` for its default folder.
        validation: Fraction of the training images to hold out for validation, at
            least 0 and below 1. Always the same images.
        download: Whether TensorFlow Datasets may download missing data.
        image_size: Height and width of images from a folder.

    Returns:
        `(x_train, y_train), (x_test, y_test)`, or, with a validation fraction,
        `(x_train, y_train), (x_validation, y_validation), (x_test, y_test)`. Images
        are `uint8` from 0 to 255, `(images, height, width, channels)`; labels `int32`.

    Raises:
        ValueError: An unknown name; a fraction out of range, or one that leaves a set
            empty.
        ImportError: A package that this data set requires is not installed.
        FileNotFoundError: The data set is missing; the message says how to get it.

    Example:

    >>> (x_train, y_train), (x_test, y_test) = load_arrays("digits")
    """
    is_folder = name.startswith("folder:")
    if not is_folder and name not in DATASET_NAMES:
        raise ValueError(
            f"`load_arrays`: unknown data set {name!r}. Choose one of {DATASET_NAMES}."
        )
    check_in_range("load_arrays", "validation", validation, 0, 1, inclusive=True)
    if is_folder:
        train, test = load_folder(name.removeprefix("folder:"), image_size)
    elif name == "digits":
        train, test = _load_digits()
    else:
        train, test = load_tfds(name, data_dir, download)
    return *split_validation(train, validation), test


def split_validation(train, validation):
    """`[(x, y)]`, or `[(x, y), (x_val, y_val)]` if `validation` > 0, order kept."""
    if not validation:
        return [train]
    x, y = train
    # Independent of the experiment's seed, so that no run trains on another run's
    # validation images; and unlike NumPy's newer generators, this one never changes.
    indices = np.random.RandomState(0).permutation(len(x))
    num_validation = round(validation * len(x))
    if not 0 < num_validation < len(x):
        raise ValueError(
            f"`validation`: a fraction of {validation} of {len(x)} training images is "
            f"{num_validation} images. Both sets need at least one: choose another "
            "fraction, or 0 for no validation set."
        )
    subsets = indices[num_validation:], indices[:num_validation]
    return [(x[subset], y[subset]) for subset in map(np.sort, subsets)]


def _load_digits():
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise ImportError(
            "`digits` requires scikit-learn, which is not installed: "
            "pip install scikit-learn"
        ) from None
    images, labels = load_digits(return_X_y=True)
    # Rescales the 17 shades to the range of the other data sets, 0 to 255.
    images = np.rint(images * (255 / 16)).astype("uint8").reshape(-1, 8, 8, 1)
    x_train, x_test, y_train, y_test = train_test_split(
        images, labels.astype("int32"), test_size=500, stratify=labels, random_state=0
    )
    return (x_train, y_train), (x_test, y_test)
