"""The images of a run, as arrays and as batches."""

from typing import Any, NamedTuple

import numpy as np

from keras_dtkd import datasets, models
from keras_dtkd.datasets.registry import NORMALIZATION

NAMES = tuple(NORMALIZATION)
NUM_CLASSES = {"cifar100": 100}
# A flipped digit is not a digit.
NO_AUGMENTATION = ("digits",)


class Images(NamedTuple):
    """`(images, labels)` of each part; `validation` is `None` without such a part."""

    data: str
    train: Any
    validation: Any
    test: Any

    @property
    def shape(self):
        """Shape of one image."""
        return self.test[0].shape[1:]

    @property
    def num_classes(self):
        """Number of classes."""
        return NUM_CLASSES.get(self.data, 10)

    @property
    def evaluation(self):
        """The part on which each epoch is evaluated."""
        return self.test if self.validation is None else self.validation


def load(data, data_dir=None, validation=0.0, train_size=None):
    """Loads a data set as `Images`, uint8. Keeps `train_size` training images."""
    parts = datasets.load_arrays(data, data_dir, validation=validation)
    x, y = parts[0]
    if train_size is not None:
        if train_size > len(x):
            raise ValueError(
                f"--train-size {train_size}: {data} has {len(x)} training images with "
                f"--validation {validation}."
            )
        # Independent of the seed; a subset of every larger `train_size`.
        permutation = np.random.RandomState(0).permutation(len(x))
        indices = np.sort(permutation[:train_size])
        x, y = x[indices], y[indices]
    return Images(data, (x, y), parts[1] if validation else None, parts[-1])


def build_network(name, images):
    """Builds an untrained `channels_last` network for `Images`."""
    return models.get(name, images.num_classes, images.shape, "channels_last")


def make_datasets(images, settings, first_epoch):
    """`(all_versions, train, evaluation)`, batches for `fit`.

    `all_versions` has all augmented versions of the training images, in order; it is
    `None` without a fixed number of them. With a fixed number and a teacher, `train`
    has sample ids.
    """
    versions = settings["versions"]
    *all_versions, train, evaluation = datasets.from_arrays(
        images.train,
        images.evaluation,
        settings["batch_size"],
        settings["augment"],
        settings["seed"],
        first_epoch=first_epoch,
        augmentations_per_image=versions,
        **NORMALIZATION[images.data],
    )
    if versions and settings["teacher"] is None:
        # `map` must not prefetch: keep the options of `train`.
        read_options = train.options()
        train = train.map(lambda x, y: (x["inputs"], y)).with_options(read_options)
    return all_versions[0] if versions else None, train, evaluation


def sequential_batches(images, part, batch_size=64):
    """Normalized batches of a part, in order, without augmentation."""
    constants = NORMALIZATION[images.data]
    return datasets.from_arrays(part, part, batch_size, **constants)[1]
