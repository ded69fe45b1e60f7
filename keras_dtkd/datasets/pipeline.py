"""From images in memory to batches: shuffle, crop, flip, normalize."""

import numbers
import random
from dataclasses import KW_ONLY, dataclass

import numpy as np

from keras_dtkd.core.arguments import check_choice, check_in_range
from keras_dtkd.core.arrays import REQUIRED_IDS_ATTRIBUTE
from keras_dtkd.datasets.arrays import split_validation
from keras_dtkd.datasets.checks import validate_images
from keras_dtkd.datasets.tfds import require_tensorflow


def from_arrays(train, test, batch_size=64, augment=False, seed=None, **options):
    """Builds batches of your own images, for `fit` and `evaluate` on every backend.

    Args:
        train: `(images, labels)`; images from 0 to 255, `(images, height, width,
            channels)`, all held in memory.
        test: `(images, labels)` for evaluation.
        batch_size: See `cifar100`.
        augment: See `cifar100`.
        seed: See `cifar100`.
        **options: See `cifar100`. `mean` defaults to 0 and `std` to 1.

    Returns:
        The datasets of `cifar100`, with these images and labels.

    Raises:
        ValueError: An argument is out of range or does not fit the images.
        ImportError: TensorFlow is not installed.

    Example:

    >>> train, test = from_arrays((x_train, y_train), (x_test, y_test), augment=True)
    """
    pipeline = ImagePipeline("from_arrays", batch_size, augment, seed, **options)
    return pipeline.build(train, test)


# Black pixels added on each side before a crop.
PADDING = 4
# Smallest value of the integer arguments; the others may be `None`.
INTEGERS = {"batch_size": 1, "first_epoch": 0}
OPTIONAL_INTEGERS = {"augmentations_per_image": 1, "seed": -(2**63)}


@dataclass(frozen=True)
class ImagePipeline:
    """From images to batches. Validates its arguments before any data is read.

    For the arguments see `cifar100`; `caller` is the public function, for errors.
    """

    caller: str
    batch_size: int
    augment: bool
    seed: int | None
    _: KW_ONLY
    validation: float = 0.0
    first_epoch: int = 0
    augmentations_per_image: int | None = None
    mean: tuple[float, ...] | float = 0.0
    std: tuple[float, ...] | float = 1.0
    data_format: str = "channels_last"

    def __post_init__(self):
        fraction = self.validation
        check_in_range(self.caller, "validation", fraction, 0, 1, inclusive=True)
        for name, minimum in (INTEGERS | OPTIONAL_INTEGERS).items():
            value = getattr(self, name)
            is_integer = isinstance(value, numbers.Integral)
            is_valid = is_integer and minimum <= int(value) < 2**63
            if not is_valid and not (value is None and name in OPTIONAL_INTEGERS):
                self._raise(name, f"must be an integer between {minimum} and 2**63 - 1")
        if self.first_epoch and self.seed is None:
            self._raise("seed", "is required by `first_epoch`, which continues a run")
        formats = ("channels_last", "channels_first")
        check_choice(self.caller, "data_format", self.data_format, formats)
        if not np.min(self.std) > 0:
            self._raise("std", "must be positive")
        require_tensorflow(self.caller)

    def _raise(self, name, rule):
        received = f"{name}={getattr(self, name)!r}"
        raise ValueError(f"`{self.caller}`: `{name}` {rule}. Received: {received}")

    def build(self, train, test):
        """The datasets of these images and labels, in the order of `cifar100`."""
        train = validate_images(self, "train", train)
        test = validate_images(self, "test", test)
        train, *validation = split_validation(train, self.validation)
        datasets = [self._training_dataset(*train)]
        datasets += [self._sequential(*arrays) for arrays in (*validation, test)]
        if self.augmentations_per_image is not None:
            datasets.insert(0, self._all_augmentations(*train))
        return datasets

    def _sequential(self, images, labels):
        """Batches in the order of the arrays, only normalized."""
        import tensorflow as tf

        indices = tf.data.Dataset.range(len(images)).batch(self.batch_size)
        return self._make_batches(indices, images, labels)

    def _all_augmentations(self, images, labels):
        """Every augmented image; its sample ID is `augmentation · images + image`."""
        import tensorflow as tf

        num_augmentations, num_images = self.augmentations_per_image or 0, len(images)

        def augmented_indices(number):
            tensors = tf.range(num_images), *_fixed_augmentation(num_images, number)
            return tf.data.Dataset.from_tensor_slices(tensors).batch(self.batch_size)

        dataset = tf.data.Dataset.range(num_augmentations).flat_map(augmented_indices)
        dataset = self._make_batches(dataset, images, labels)
        num_batches = num_augmentations * -(-num_images // self.batch_size)
        return dataset.apply(tf.data.experimental.assert_cardinality(num_batches))

    def _training_dataset(self, images, labels):
        """Passes over the training set, each with its own order and augmentation.

        An epoch is counted when its last batch is handed out: Keras and others peek at
        a first batch and restart, which must not change anything.
        """
        import tensorflow as tf

        seed = random.randrange(2**31) if self.seed is None else self.seed
        num_images = len(images)
        last_batch = -(-num_images // self.batch_size) - 1
        # Not a `tf.Variable`, which the scope of a strategy would mirror.
        epoch_counter = np.array(self.first_epoch, "int64")

        def count_epochs(number):
            return np.add(epoch_counter, number, out=epoch_counter).copy()

        def shuffled_indices(_):
            epoch = tf.ensure_shape(tf.numpy_function(count_epochs, [0], tf.int64), ())
            order, offset, flip = tf.unstack(tf.random.split([seed, epoch], 3))
            shuffle = tf.random.experimental.stateless_shuffle
            indices = shuffle(tf.range(num_images), order)
            tensors = indices, *_sample_augmentation(num_images, offset, flip)
            if self.augmentations_per_image is not None:
                # The same for every seed, so that the teacher runs on them only once.
                # Sample IDs of one augmentation follow those of the one before it.
                number = epoch % self.augmentations_per_image
                augmentation = _fixed_augmentation(num_images, number)
                shuffled = (tf.gather(values, indices) for values in augmentation)
                sample_ids = indices + num_images * tf.cast(number, tf.int32)
                tensors = indices, *shuffled, sample_ids
            return tf.data.Dataset.from_tensor_slices(tensors).batch(self.batch_size)

        def count_last_batch(batch_index, batch):
            # Calling Python after each batch would take a fifth of the time.
            count = tf.cond(
                batch_index == last_batch,
                lambda: tf.numpy_function(count_epochs, [1], tf.int64),
                lambda: batch_index,
            )
            with tf.control_dependencies([count]):
                return tf.nest.map_structure(tf.identity, batch)

        dataset = tf.data.Dataset.range(1).flat_map(shuffled_indices)
        dataset = self._make_batches(dataset, images, labels)
        # After the last prefetch, so that it runs when a batch is requested.
        dataset = dataset.enumerate().map(count_last_batch)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(last_batch + 1))
        # By default tf.data injects another prefetch at the end.
        options = tf.data.Options()
        options.experimental_optimization.inject_prefetch = False
        dataset = dataset.with_options(options)
        if self.augmentations_per_image is not None:
            # Lets a stored teacher be checked for these samples before the first step.
            num_ids = num_images * int(self.augmentations_per_image)
            setattr(dataset, REQUIRED_IDS_ATTRIBUTE, num_ids)
        return dataset

    def _make_batches(self, dataset, images, labels):
        """From batches of indices, and augmentations if any, to images and labels."""
        import tensorflow as tf

        # In main memory even if there is a GPU, because tf.data runs on the CPU.
        with tf.device("CPU"):
            images, labels = tf.constant(images), tf.constant(labels)
            if labels.dtype.is_integer:
                labels = tf.cast(labels, tf.int32)
        mean, std = (255.0 * np.asarray(v, "float32") for v in (self.mean, self.std))

        def make_batch(indices, offsets=None, flips=None, sample_ids=None):
            x = tf.gather(images, indices)
            if self.augment and offsets is not None:
                x = crop_and_flip(x, offsets, flips)
            # One sum and one product.
            x = (tf.cast(x, tf.float32) - mean) * (1 / std)
            if self.data_format == "channels_first":
                x = tf.transpose(x, (0, 3, 1, 2))
            if sample_ids is not None:
                x = {"inputs": x, "sample_ids": sample_ids}
            return x, tf.gather(labels, indices)

        return dataset.map(make_batch, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def crop_and_flip(images, offsets, flips):
    """Crops each image from its zero-padded version and flips some horizontally.

    `offsets`, `(batch, 2)`, are the row and the column where the crop begins in the
    padded image, from 0 to 8; `images` are not normalized yet: the padding is black.
    All pixels are gathered at once, for speed: see docs/datasets.md.

    Reference:
        He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385,
        section 4.2.
    """
    import tensorflow as tf

    height, width, channels = images.shape[1:]
    border = [PADDING, PADDING]
    padded = tf.pad(images, [[0, 0], border, border, [0, 0]])
    rows = tf.range(height) + offsets[:, :1]
    columns = tf.range(width)
    columns = tf.where(flips[:, None], width - 1 - columns, columns) + offsets[:, 1:]
    # Indices into all padded images of the batch, flattened to one axis of pixels.
    starts = tf.range(tf.shape(images)[0])[:, None] * (height + 2 * PADDING)
    pixels = (starts + rows)[:, :, None] * (width + 2 * PADDING) + columns[:, None, :]
    return tf.gather(tf.reshape(padded, (-1, channels)), pixels)


def _sample_augmentation(num_images, offset_seed, flip_seed):
    """Crop offsets `(images, 2)` and flips `(images,)`."""
    import tensorflow as tf

    offsets = tf.random.stateless_uniform(
        (num_images, 2), offset_seed, 0, 2 * PADDING + 1, tf.int32
    )
    return offsets, tf.random.stateless_uniform((num_images,), flip_seed) < 0.5


def _fixed_augmentation(num_images, number):
    """The offsets and flips of one fixed augmentation, whatever the user's seed."""
    import tensorflow as tf

    seeds = tf.unstack(tf.random.split([-1, number], 2))
    return _sample_augmentation(num_images, *seeds)
