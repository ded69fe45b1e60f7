"""Images in memory to batches: shuffled, cropped, flipped, normalised."""

import random
from dataclasses import KW_ONLY, dataclass

import numpy as np

from keras_dtkd.core.arrays import REQUIRED_IDS_ATTRIBUTE
from keras_dtkd.datasets.arrays import split
from keras_dtkd.datasets.augment import PADDING, crop_and_flip
from keras_dtkd.datasets.checks import check_arguments, check_images
from keras_dtkd.datasets.tfds import require_tensorflow


def from_arrays(train, test, batch_size=64, augment=False, seed=None, **options):
    """Batches of your own images, for `fit` and `evaluate` on every backend.

    Args:
        train: `(images, labels)`; images of 0 to 255, `(images, height, width,
            channels)`, all held in memory.
        test: The same, to evaluate.
        batch_size: Images a batch. The last batch has what is left.
        augment: Whether training images are cropped, at random, from their 4 pixels
            wider self with black around, and half of them, at random, flipped.
        seed: An integer decides order, crops and flips of every epoch. Each run has
            its own if `None`.
        **options: As of `cifar100`; `mean` is 0 and `std` 1 if not given.

    Returns:
        `train, test`, with a validation share `train, validation, test`, with
        `versions` one more before them: each a `tf.data.Dataset` of
        `(images, labels)`, as of `cifar100`.

    Raises:
        ValueError: An argument out of range, or one that does not fit the images.
        ImportError: TensorFlow is not installed.

    Example:

    >>> train, test = from_arrays((x_train, y_train), (x_test, y_test), augment=True)
    """
    return ImagePipeline("from_arrays", batch_size, augment, seed, **options).of(
        train, test
    )


@dataclass(frozen=True)
class ImagePipeline:
    """How images become batches: the arguments, checked before anything is read.

    Attributes:
        who: Whom an error names.
        batch_size: See `from_arrays`, and so for the others.
        augment: As above.
        seed: As above.
        validation: Share of the training images to set apart.
        first_epoch: Number of the epoch that is the first pass over the training set.
        versions: How many fixed versions each training image has. `None` for as many
            as there are epochs.
        mean: Of pixels from 0 to 1, one for each channel or one for all.
        std: The same.
        data_format: Where the channels are.
    """

    who: str
    batch_size: int
    augment: bool
    seed: int | None
    _: KW_ONLY
    validation: float = 0.0
    first_epoch: int = 0
    versions: int | None = None
    mean: tuple[float, ...] | float = 0.0
    std: tuple[float, ...] | float = 1.0
    data_format: str = "channels_last"

    def __post_init__(self):
        check_arguments(self)
        require_tensorflow(self.who)

    def of(self, train, test):
        """The datasets of these images and labels: training first, test last.

        Before them all versions of the training images, where their number is fixed.
        """
        train, test = check_images(self, train, test)
        sets = [*split(train, self.validation), test]
        found = [
            self._training(*sets[0]),
            *(self._in_order(*held) for held in sets[1:]),
        ]
        return [self._every_version(*sets[0])] * (self.versions is not None) + found

    def _in_order(self, images, labels):
        tf = require_tensorflow(self.who)
        rows = tf.data.Dataset.range(len(images)).batch(self.batch_size)
        images, labels = _constants(tf, images, labels)

        def batch(rows):
            chosen = self._normalised(tf, tf.gather(images, rows))
            return chosen, tf.gather(labels, rows)

        return rows.map(batch, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)

    def _every_version(self, images, labels):
        """Row `version · images + image` of what a stored teacher is asked about."""
        tf, versions = require_tensorflow(self.who), self.versions or 0
        count = len(images)
        images, labels = _constants(tf, images, labels)

        def rows(version):
            drawn = (tf.range(count), *_crops(tf, count, version))
            return tf.data.Dataset.from_tensor_slices(drawn).batch(self.batch_size)

        def batch(rows, offsets, flips):
            return self._cropped(tf, images, rows, offsets, flips), tf.gather(
                labels, rows
            )

        dataset = tf.data.Dataset.range(versions).flat_map(rows)
        dataset = dataset.map(batch, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
        batches = versions * -(-count // self.batch_size)
        return dataset.apply(tf.data.experimental.assert_cardinality(batches))

    def _training(self, images, labels):
        """Passes over the training set, each in an order and with crops of its own.

        They depend on the seed and the number of the pass alone, so that a run can go
        on where it stopped. A pass is counted when its last batch is handed out: Keras,
        and others, look at a first batch and begin anew, which must change nothing.
        """
        tf = require_tensorflow(self.who)
        seed = random.randrange(2**31) if self.seed is None else self.seed
        count, last = len(images), -(-len(images) // self.batch_size) - 1
        images, labels = _constants(tf, images, labels)
        # Not a variable: in the scope of a strategy it would be mirrored.
        passes = EpochCounter(self.first_epoch)

        def draws(_):
            epoch = tf.numpy_function(passes.current, [], tf.int64)
            epoch = tf.ensure_shape(epoch, ())
            order, offset, flip = tf.unstack(tf.random.split([seed, epoch], 3))
            rows = tf.random.experimental.stateless_shuffle(tf.range(count), order)
            drawn = (rows, *_draw(tf, count, offset, flip))
            if self.versions is not None:
                # Versions are the same whatever the seed, so that a teacher is asked
                # once; and row numbers begin anew with each.
                version = epoch % self.versions
                fixed = _crops(tf, count, version)
                place = rows + count * tf.cast(version, tf.int32)
                drawn = (rows, *(tf.gather(part, rows) for part in fixed), place)
            return tf.data.Dataset.from_tensor_slices(drawn).batch(self.batch_size)

        def batch(rows, offsets, flips, *place):
            chosen = self._cropped(tf, images, rows, offsets, flips)
            x = {"inputs": chosen, "sample_ids": place[0]} if place else chosen
            return x, tf.gather(labels, rows)

        def counted(number, batch):
            def count():
                return tf.numpy_function(passes.end, [], tf.int64)

            with tf.control_dependencies(
                [tf.cond(number == last, count, lambda: number)]
            ):
                return tf.nest.map_structure(tf.identity, batch)

        dataset = tf.data.Dataset.range(1).flat_map(draws)
        dataset = dataset.map(batch, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
        # After the last prefetch, so that it is called when a batch is asked for.
        dataset = dataset.enumerate().map(counted)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(last + 1))
        # tf.data adds a prefetch of its own at the end unless told not to.
        options = tf.data.Options()
        options.experimental_optimization.inject_prefetch = False
        dataset = dataset.with_options(options)
        if self.versions is not None:
            # So that a stored teacher is known to have them before the first step.
            setattr(dataset, REQUIRED_IDS_ATTRIBUTE, count * int(self.versions))
        return dataset

    def _cropped(self, tf, images, rows, offsets, flips):
        chosen = tf.gather(images, rows)
        if self.augment:
            chosen = crop_and_flip(chosen, offsets, flips)
        return self._normalised(tf, chosen)

    def _normalised(self, tf, images):
        # As one product and one sum.
        mean, std = (255.0 * np.asarray(v, "float32") for v in (self.mean, self.std))
        images = (tf.cast(images, tf.float32) - mean) * (1 / std)
        if self.data_format == "channels_first":
            images = tf.transpose(images, (0, 3, 1, 2))
        return images


class EpochCounter:
    """The number of the current pass over the training set."""

    def __init__(self, first):
        self.number = first

    def current(self):
        """The number."""
        return np.int64(self.number)

    def end(self):
        """Goes on to the next one."""
        self.number += 1
        return self.current()


def _draw(tf, count, offset, flip):
    """Where each image is cropped, and whether it is flipped."""
    offsets = tf.random.stateless_uniform(
        (count, 2), offset, 0, 2 * PADDING + 1, tf.int32
    )
    return offsets, tf.random.stateless_uniform((count,), flip) < 0.5


def _crops(tf, count, version):
    """The same for a fixed version. -1 is no user's seed."""
    offset, flip = tf.unstack(tf.random.split([-1, version], 2))
    return _draw(tf, count, offset, flip)


def _constants(tf, images, labels):
    # In main memory also where there is a GPU: that is where tf.data works.
    with tf.device("CPU"):
        images, labels = tf.constant(images), tf.constant(labels)
        return images, tf.cast(labels, tf.int32) if labels.dtype.is_integer else labels
