"""Data sets by name, normalized with their published constants."""

from typing import Any

from keras_dtkd.datasets.arrays import load_arrays
from keras_dtkd.datasets.pipeline import ImagePipeline

# Of pixels scaled to [0, 1]. Digits are only scaled.
NORMALIZATION: dict[str, dict[str, Any]] = {
    "cifar100": {"mean": (0.5071, 0.4867, 0.4408), "std": (0.2675, 0.2565, 0.2761)},
    "cifar10": {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616)},
    "fashion_mnist": {"mean": 0.2860, "std": 0.3530},
    "digits": {},
}


def cifar100(
    batch_size=64, augment=True, data_dir=None, seed=None, *, download=True, **options
):
    """CIFAR-100: 50,000 and 10,000 images of 32x32x3, 100 classes.

    Augmented and normalized as in the distillation literature.

    Args:
        batch_size: Images per batch. The last batch may be smaller.
        augment: Whether training images are randomly cropped, after padding with 4
            black pixels on each side, and flipped with probability 1/2.
        data_dir: Folder of TensorFlow Datasets. `None` for its default folder.
        seed: An integer that determines order, crops and flips of every epoch. `None`
            for different ones in each run.
        download: Whether TensorFlow Datasets may download missing data.
        validation: Fraction of the training images to hold out, for the choice of
            hyperparameters. Always the same images, whatever the seed. Default 0.
        first_epoch: Index of the epoch that is the first pass over `train`, from 0. To
            continue a run, pass the `initial_epoch` of `fit`. Default 0.
        augmentations_per_image: Number of fixed crops and flips of each image: epoch e
            shows number `e % augmentations_per_image`. For a teacher whose outputs are
            stored, see the example. By default every epoch has new ones.
        mean: Mean of pixels scaled to [0, 1], for each channel. Default: as published.
        std: Standard deviation of the same pixels. Default: as published.
        data_format: `"channels_last"`, the default, or `"channels_first"`.

    Returns:
        `train, test`, or, with a validation fraction, `train, validation, test`. Each
        is a `tf.data.Dataset` of `(images, labels)`, `float32` of `(batch, 32, 32, 3)`
        and `int32` of `(batch,)`, of known cardinality. `train` has another order and
        other crops in each epoch; the others keep the order of the data and are only
        normalized. An epoch of `train` ends when its last batch is handed out; one
        that is not finished is not counted.

        With `augmentations_per_image`, one more dataset comes first: all augmented
        training images, in the order of the stored teacher's samples; and `train` is
        of `({"inputs": images, "sample_ids": sample_ids}, labels)`.

    Raises:
        ValueError: An argument is out of range.
        ImportError: TensorFlow or TensorFlow Datasets is not installed.
        FileNotFoundError: The data set is missing; the message says how to get it.

    Reference:
        Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
        Augmentation and constants: megvii-research/mdistiller.

    Example:

    >>> train, validation, test = cifar100(seed=0, validation=0.1)
    >>> distiller.fit(train, validation_data=validation, epochs=240)

    A teacher that is too slow to run in every epoch:

    >>> augmented, train, test = cifar100(seed=0, augmentations_per_image=8)
    >>> teacher = keras_dtkd.teachers.store(teacher, augmented, "teacher_outputs")
    >>> Distiller(teacher, student).fit(train, validation_data=test, epochs=240)
    """
    return _load("cifar100", batch_size, augment, data_dir, seed, download, options)


def cifar10(
    batch_size=64, augment=True, data_dir=None, seed=None, *, download=True, **options
):
    """CIFAR-10: 50,000 and 10,000 images of 32x32x3, 10 classes.

    For arguments, results and errors see `cifar100`. The constants are the mean and
    standard deviation of the training images; a teacher that was trained elsewhere may
    need others, `mean=` and `std=`.

    Reference:
        Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.

    Example:

    >>> train, test = cifar10(batch_size=128, seed=0)
    """
    return _load("cifar10", batch_size, augment, data_dir, seed, download, options)


def fashion_mnist(
    batch_size=64, augment=True, data_dir=None, seed=None, *, download=True, **options
):
    """Fashion-MNIST: 60,000 and 10,000 images of 28x28x1, 10 classes.

    For arguments, results and errors see `cifar100`. The constants are the mean and
    standard deviation of the training images.

    Reference:
        Xiao et al., "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine
        Learning Algorithms", arXiv 1708.07747.

    Example:

    >>> train, test = fashion_mnist(seed=0)
    """
    return _load(
        "fashion_mnist", batch_size, augment, data_dir, seed, download, options
    )


def digits(batch_size=64, seed=None, **options):
    """Handwritten digits: 1,297 and 500 images of 8x8x1, 10 classes.

    Part of scikit-learn, which must be installed. Pixels are scaled to [0, 1]. There
    is no augmentation: a flipped digit is not a digit. The 500 test images are a fixed
    stratified sample.

    For other arguments, results and errors see `cifar100`.

    Example:

    >>> train, test = digits(seed=0)
    """
    if options.pop("augment", False):
        raise ValueError(
            "`digits` has no augmentation: a flipped digit is not a digit. Leave out "
            "`augment=True`."
        )
    return _load("digits", batch_size, False, None, seed, True, options)


def _load(name, batch_size, augment, data_dir, seed, download, options):
    options = {**NORMALIZATION[name], **options}
    # Before any data is read, it validates the options.
    pipeline = ImagePipeline(name, batch_size, augment, seed, **options)
    return pipeline.build(*load_arrays(name, data_dir, download=download))
