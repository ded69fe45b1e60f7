"""From images in memory to batches: shuffle, crop, flip, normalize."""

import random
from dataclasses import KW_ONLY, dataclass

import numpy as np

from keras_dtkd.core.arrays import REQUIRED_IDS_ATTRIBUTE
from keras_dtkd.datasets.arrays import split_validation
from keras_dtkd.datasets.augment import PADDING, crop_and_flip
from keras_dtkd.datasets.checks import validate_arguments, validate_images
from keras_dtkd.datasets.tfds import require_tensorflow


def from_arrays(train, test, batch_size=64, augment=False, seed=None, **options):
    """Builds batches of your own images, for `fit` and `evaluate` on every backend.

    Args:
        train: `(images, labels)`; images from 0 to 255, `(images, height, width,
            channels)`, all held in memory.
        test: `(images, labels)` for evaluation.
        batch_size: Images per batch. The last batch may be smaller.
        augment: Whether training images are randomly cropped, after padding with 4
            black pixels on each side, and flipped with probability 1/2.
        seed: An integer that determines order, crops and flips of every epoch. `None`
            for different ones in each run.
        **options: See `cifar100`. `mean` defaults to 0 and `std` to 1.

    Returns:
        `train, test`, or, with a validation fraction, `train, validation, test`; with
        `augmentations_per_image` one more comes first. Each is a `tf.data.Dataset` of
        `(images, labels)`, see `cifar100`.

    Raises:
        ValueError: An argument is out of range or does not fit the images.
        ImportError: TensorFlow is not installed.

    Example:

    >>> train, test = from_arrays((x_train, y_train), (x_test, y_test), augment=True)
    """
    pipeline = ImagePipeline("from_arrays", batch_size, augment, seed, **options)
    return pipeline.build(train, test)


@dataclass(frozen=True)
class ImagePipeline:
    """Options of a pipeline from images to batches, validated before any data is read.

    Attributes:
        caller: Name of the public function, for error messages.
        batch_size: See `from_arrays`.
        augment: See `from_arrays`.
        seed: See `from_arrays`.
        validation: Fraction of the training images to hold out for validation.
        first_epoch: Index of the epoch that is the first pass over the training set.
        augmentations_per_image: Number of fixed augmentations of each training image.
            `None` for new ones in every epoch.
        mean: Mean of pixels scaled to [0, 1], one per channel or one for all.
        std: Standard deviation of the same pixels.
        data_format: `"channels_last"` or `"channels_first"`.
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
        validate_arguments(self)
        require_tensorflow(self.caller)

    def build(self, train, test):
        """The datasets of these images and labels: training first, test last.

        With `augmentations_per_image`, all augmented training images come first.
        """
        train, test = validate_images(self, train, test)
        splits = [*split_validation(train, self.validation), test]
        datasets = [self._training_dataset(*splits[0])]
        datasets += [self._sequential(*arrays) for arrays in splits[1:]]
        if self.augmentations_per_image is not None:
            datasets.insert(0, self._all_augmentations(*splits[0]))
        return datasets

    def _sequential(self, images, labels):
        """Batches in the order of the arrays, only normalized."""
        tf = require_tensorflow(self.caller)
        indices = tf.data.Dataset.range(len(images)).batch(self.batch_size)
        images, labels = _to_constants(tf, images, labels)

        def make_batch(indices):
            x = self._normalize(tf, tf.gather(images, indices))
            return x, tf.gather(labels, indices)

        return indices.map(make_batch, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)

    def _all_augmentations(self, images, labels):
        """Every augmented image; its sample ID is `augmentation · images + image`."""
        tf = require_tensorflow(self.caller)
        num_augmentations, num_images = self.augmentations_per_image or 0, len(images)
        images, labels = _to_constants(tf, images, labels)

        def augmented_batches(augmentation):
            offsets, flips = _fixed_augmentation(tf, num_images, augmentation)
            tensors = tf.range(num_images), offsets, flips
            return tf.data.Dataset.from_tensor_slices(tensors).batch(self.batch_size)

        def make_batch(indices, offsets, flips):
            x = self._augment(tf, images, indices, offsets, flips)
            return x, tf.gather(labels, indices)

        dataset = tf.data.Dataset.range(num_augmentations).flat_map(augmented_batches)
        dataset = dataset.map(make_batch, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
        num_batches = num_augmentations * -(-num_images // self.batch_size)
        return dataset.apply(tf.data.experimental.assert_cardinality(num_batches))

    def _training_dataset(self, images, labels):
        """Passes over the training set, each with its own order and augmentation.

        They depend only on the seed and the index of the epoch, so that a stopped run
        can continue. An epoch is counted when its last batch is handed out: Keras and
        others peek at a first batch and restart, which must not change anything.
        """
        tf = require_tensorflow(self.caller)
        seed = random.randrange(2**31) if self.seed is None else self.seed
        num_images = len(images)
        last_batch = -(-num_images // self.batch_size) - 1
        images, labels = _to_constants(tf, images, labels)
        # Not a `tf.Variable`, which the scope of a strategy would mirror.
        epoch_counter = EpochCounter(self.first_epoch)

        def shuffled_batches(_):
            epoch = tf.numpy_function(epoch_counter.current, [], tf.int64)
            epoch = tf.ensure_shape(epoch, ())
            order, offset, flip = tf.unstack(tf.random.split([seed, epoch], 3))
            indices = tf.random.experimental.stateless_shuffle(
                tf.range(num_images), order
            )
            augmentation = _sample_augmentation(tf, num_images, offset, flip)
            tensors = (indices, *augmentation)
            if self.augmentations_per_image is not None:
                # The same for every seed, so that the teacher runs on them only once.
                # Sample IDs of one augmentation follow those of the one before it.
                number = epoch % self.augmentations_per_image
                augmentation = _fixed_augmentation(tf, num_images, number)
                sample_ids = indices + num_images * tf.cast(number, tf.int32)
                shuffled = (tf.gather(values, indices) for values in augmentation)
                tensors = (indices, *shuffled, sample_ids)
            return tf.data.Dataset.from_tensor_slices(tensors).batch(self.batch_size)

        def make_batch(indices, offsets, flips, *sample_ids):
            x = self._augment(tf, images, indices, offsets, flips)
            if sample_ids:
                x = {"inputs": x, "sample_ids": sample_ids[0]}
            return x, tf.gather(labels, indices)

        def count_epoch(batch_index, batch):
            def advance():
                return tf.numpy_function(epoch_counter.advance, [], tf.int64)

            with tf.control_dependencies(
                [tf.cond(batch_index == last_batch, advance, lambda: batch_index)]
            ):
                return tf.nest.map_structure(tf.identity, batch)

        dataset = tf.data.Dataset.range(1).flat_map(shuffled_batches)
        dataset = dataset.map(make_batch, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
        # After the last prefetch, so that it runs when a batch is requested.
        dataset = dataset.enumerate().map(count_epoch)
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

    def _augment(self, tf, images, indices, offsets, flips):
        x = tf.gather(images, indices)
        if self.augment:
            x = crop_and_flip(x, offsets, flips)
        return self._normalize(tf, x)

    def _normalize(self, tf, images):
        # One sum and one product.
        mean, std = (255.0 * np.asarray(v, "float32") for v in (self.mean, self.std))
        images = (tf.cast(images, tf.float32) - mean) * (1 / std)
        if self.data_format == "channels_first":
            images = tf.transpose(images, (0, 3, 1, 2))
        return images


class EpochCounter:
    """The index of the current epoch of the training set."""

    def __init__(self, first_epoch):
        self.epoch = first_epoch

    def current(self):
        """Returns the index."""
        return np.int64(self.epoch)

    def advance(self):
        """Increments the index and returns it."""
        self.epoch += 1
        return self.current()


def _sample_augmentation(tf, num_images, offset_seed, flip_seed):
    """Crop offsets `(images, 2)` and flips `(images,)`."""
    offsets = tf.random.stateless_uniform(
        (num_images, 2), offset_seed, 0, 2 * PADDING + 1, tf.int32
    )
    return offsets, tf.random.stateless_uniform((num_images,), flip_seed) < 0.5


def _fixed_augmentation(tf, num_images, augmentation):
    """The offsets and flips of one fixed augmentation, whatever the user's seed."""
    offset_seed, flip_seed = tf.unstack(tf.random.split([-1, augmentation], 2))
    return _sample_augmentation(tf, num_images, offset_seed, flip_seed)


def _to_constants(tf, images, labels):
    # In main memory even if there is a GPU, because tf.data runs on the CPU.
    with tf.device("CPU"):
        images, labels = tf.constant(images), tf.constant(labels)
        return images, tf.cast(labels, tf.int32) if labels.dtype.is_integer else labels
