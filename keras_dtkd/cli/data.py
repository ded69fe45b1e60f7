"""The images of a run: which ones, and as what."""

from typing import Any, NamedTuple

import numpy as np

from keras_dtkd import datasets, models
from keras_dtkd.datasets.registry import NORMALIZATION

NAMES = tuple(NORMALIZATION)
CLASSES = {"cifar100": 100}
# A flipped digit is none.
NEVER_AUGMENTED = ("digits",)


class Images(NamedTuple):
    """`(images, labels)` of each part; `validation` is `None` without a share."""

    data: str
    train: Any
    validation: Any
    test: Any

    @property
    def shape(self):
        """Of one image."""
        return self.test[0].shape[1:]

    @property
    def classes(self):
        """How many there are."""
        return CLASSES.get(self.data, 10)

    @property
    def judge(self):
        """What the epochs are judged on."""
        return self.test if self.validation is None else self.validation


def read(data, data_dir=None, validation=0.0, train_size=None):
    """Reads a data set.

    Args:
        data: One of `NAMES`.
        data_dir: See `datasets.arrays`.
        validation: Share of the training images to set apart.
        train_size: How many of those that are left to keep. `None` for all.

    Returns:
        `Images`, bytes as they are stored.

    Raises:
        ValueError: There are not so many training images.
        ImportError: See `datasets.arrays`.
        FileNotFoundError: See `datasets.arrays`.
    """
    try:
        sets = datasets.load_arrays(data, data_dir, validation=validation)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error} (On the command line: --data-dir DIR; what is missing is "
            "downloaded by itself.)"
        ) from error
    x, y = sets[0]
    if train_size is not None:
        if train_size > len(x):
            raise ValueError(
                f"--train-size {train_size}: {data} has {len(x)} training images with "
                f"--validation {validation}."
            )
        # A small study is a part of each larger one, whatever the seed.
        rows = np.sort(np.random.RandomState(0).permutation(len(x))[:train_size])
        x, y = x[rows], y[rows]
    return Images(data, (x, y), sets[1] if validation else None, sets[-1])


def network(name, images):
    """A network, untrained, for `Images`, which are `channels_last` everywhere."""
    return models.get(name, images.classes, images.shape, "channels_last")


def batches(images, chosen, first_epoch):
    """Training batches and those that the epochs are judged on, for `fit`.

    Args:
        images: From `read`.
        chosen: The run's `Settings`.
        first_epoch: Of the `fit`.

    Returns:
        `(every, train, judge)`. `every` has all versions of the training images, in
        the order of their rows; it is `None` where their number is not fixed. A student
        with a teacher gets rows with them.
    """
    options = {"seed": chosen.seed, "first_epoch": first_epoch}
    options |= {"augmentations_per_image": chosen.versions}
    options |= NORMALIZATION[images.data]
    sizes = chosen.batch_size, chosen.augment
    found = datasets.from_arrays(images.train, images.judge, *sizes, **options)
    every, train, judge = found if chosen.versions else (None, *found)
    if chosen.versions and chosen.teacher is None:
        # Whatever is added at its end must not read ahead.
        read = train.options()
        train = train.map(lambda x, y: (x["inputs"], y)).with_options(read)
    return every, train, judge


def in_order(images, part, batch_size=64):
    """Batches of a part in its own order, only normalised."""
    constants = NORMALIZATION[images.data]
    return datasets.from_arrays(part, part, batch_size, **constants)[1]


def normalised(images, part):
    """A part's images as one float32 array."""
    return np.concatenate([x for x, _ in in_order(images, part).as_numpy_iterator()])
