"""The data sets that papers name, with their published normalisation."""

from typing import Any

from keras_dtkd.datasets.arrays import load_arrays
from keras_dtkd.datasets.pipeline import ImagePipeline

# Of pixels from 0 to 1. Digits stay as they are.
NORMALISATION: dict[str, dict[str, Any]] = {
    "cifar100": {"mean": (0.5071, 0.4867, 0.4408), "std": (0.2675, 0.2565, 0.2761)},
    "cifar10": {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616)},
    "fashion_mnist": {"mean": 0.2860, "std": 0.3530},
    "digits": {},
}


def cifar100(
    batch_size=64, augment=True, data_dir=None, seed=None, *, download=True, **options
):
    """CIFAR-100: 50,000 and 10,000 images of 32x32x3, 100 classes.

    Augmented and normalised as in the distillation literature.

    Args:
        batch_size: Images a batch. The last batch has what is left.
        augment: Whether training images are cropped, at random, from their 4 pixels
            wider self with black around, and half of them, at random, flipped.
        data_dir: Folder of TensorFlow Datasets. Its own default if `None`.
        seed: An integer decides order, crops and flips of every epoch. Each run has
            its own if `None`.
        download: Whether TensorFlow Datasets may download what is missing.
        validation: Share of the training images to set apart, to choose
            hyper-parameters on. Always the same ones, whatever the seed. Default 0.
        first_epoch: Number of the epoch that the first pass over `train` is, from 0.
            To continue a run, give what `fit` gets as `initial_epoch`. Default 0.
        versions: How many crops and flips each image has, always the same ones: in
            epoch e it is seen in version `e % versions`. For a teacher whose answers
            are stored, see `keras_dtkd.teachers.store`. By default a new one in every
            epoch.
        mean: Of pixels from 0 to 1, for each channel; the published one by default.
        std: The same.
        data_format: `"channels_last"`, the default, or `"channels_first"`.

    Returns:
        `train, test`, with a validation share `train, validation, test`: each a
        `tf.data.Dataset` of `(images, labels)`, `float32` of `(batch, 32, 32, 3)` and
        `int32` of `(batch,)`, which knows its number of batches. `train` is in another
        order with other crops in each epoch; the others are in the data's own order
        and only normalised. An epoch of `train` ends when its last batch is handed
        out; to begin one and leave it changes nothing.

        With `versions`, one more comes first: all versions of the training images, in
        the order of a stored teacher's rows; and `train` is of
        `({"inputs": images, "sample_ids": ids}, labels)`.

    Raises:
        ValueError: An argument out of range.
        ImportError: TensorFlow or TensorFlow Datasets is not installed.
        FileNotFoundError: The data set is not there, with the ways to get it.

    Reference:
        Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
        Augmentation and constants: megvii-research/mdistiller.

    Example:

    >>> train, validation, test = cifar100(seed=0, validation=0.1)
    >>> distiller.fit(train, validation_data=validation, epochs=240)

    A teacher too large to run in every epoch:

    >>> every, train, test = cifar100(seed=0, versions=8)
    >>> stored = keras_dtkd.teachers.store(teacher, every, "answers", dtype="float16")
    >>> Distiller(stored, student).fit(train, validation_data=test, epochs=240)
    """
    how, where = (batch_size, augment, seed), (data_dir, download)
    return _read("cifar100", how, where, options)


def cifar10(
    batch_size=64, augment=True, data_dir=None, seed=None, *, download=True, **options
):
    """CIFAR-10: 50,000 and 10,000 images of 32x32x3, 10 classes.

    Arguments, results and errors as of `cifar100`. The constants are the training
    images' own mean and standard deviation; a teacher from elsewhere may want others,
    `mean=` and `std=`.

    Reference:
        Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.

    Example:

    >>> train, test = cifar10(batch_size=128, seed=0)
    """
    how, where = (batch_size, augment, seed), (data_dir, download)
    return _read("cifar10", how, where, options)


def fashion_mnist(
    batch_size=64, augment=True, data_dir=None, seed=None, *, download=True, **options
):
    """Fashion-MNIST: 60,000 and 10,000 images of 28x28x1, 10 classes.

    Arguments, results and errors as of `cifar100`. The constants are the training
    images' own mean and standard deviation.

    Reference:
        Xiao et al., "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine
        Learning Algorithms", arXiv 1708.07747.

    Example:

    >>> train, test = fashion_mnist(seed=0)
    """
    how, where = (batch_size, augment, seed), (data_dir, download)
    return _read("fashion_mnist", how, where, options)


def digits(batch_size=64, seed=None, **options):
    """Handwritten digits: 1,297 and 500 images of 8x8x1, 10 classes.

    They come with scikit-learn, which must be installed. Pixels are from 0 to 1. There
    is no augmentation: a flipped digit is none. The 500 are drawn once and for all,
    equally from all classes.

    Arguments, results and errors otherwise as of `cifar100`.

    Example:

    >>> train, test = digits(seed=0)
    """
    if options.pop("augment", False):
        raise ValueError("`digits` are never augmented: a flipped digit is none.")
    return _read("digits", (batch_size, False, seed), (None, False), options)


def _read(name, how, where, options):
    batches = ImagePipeline(name, *how, **{**NORMALISATION[name], **options})
    data_dir, download = where
    return batches.of(*load_arrays(name, data_dir, download=download))
