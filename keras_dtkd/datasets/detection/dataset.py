"""Batches of images with boxes, for `fit` on every backend."""

import threading

import keras
import numpy as np

from keras_dtkd.core.arguments import check_choice, check_positive_int
from keras_dtkd.core.boxes import (
    BOX_FORMATS,
    from_xyxy,
    pad_boxes,
    to_xyxy,
    validate_boxes,
)
from keras_dtkd.core.columns import with_columns
from keras_dtkd.datasets.detection.sample import DetectionSample
from keras_dtkd.datasets.detection.split import DetectionSplit
from keras_dtkd.datasets.tfds import require_tensorflow

# Of all data sets, so that each can be sent to another process.
_LOCK = threading.Lock()


class DetectionDataset(keras.utils.PyDataset):
    """Batches of images with boxes, shuffled and augmented, for `fit`.

    Images are read when their batch is due, so that files need not fit in memory. Each
    batch is `(images, labels)`, or, with columns, `(with_columns(images, ...),
    labels)`, as a Distiller takes it.

    Order and augmentation depend on the seed, the epoch and the index of an image
    alone. `fit` itself shuffles the *batches* of a data set, with Python's global
    random state: pass `shuffle=False` to `fit`, and the order of batches too is the
    same again in a resumed run.

    Args:
        images: A `DetectionSplit`, such as `keras_dtkd.datasets.bccd().train`; or
            `(images, height, width, channels)`, or a sequence of images of one shape.
        labels: `{"boxes": (images, max_boxes, 4), "labels": (images, max_boxes)}`; rows
            of label -1 are padding. A `DetectionSplit` brings its own.
        batch_size: Images in a batch. The last batch may be smaller.
        augment: A function of a `DetectionSample` and a `numpy.random.Generator` that
            returns a `DetectionSample`, such as `SampleSpecificAugmentation()`. It must
            keep the shape of images. Optional.
        columns: By name, an array each with one row for each image, such as
            `{"adversarial": x_adv}`. They may be memory maps. Optional.
        bounding_box_format: Format of the boxes, as in `keras_dtkd.datasets.bccd`. By
            default the split's, or `"yxyx"`.
        scales: Pixels of the images divided by original pixels, `(images, 2)`: height
            and width; for an augmentation that depends on original sizes. By default
            images have their original size.
        shuffle: Whether each epoch has another order.
        seed: An integer.
        first_epoch: Index of the first epoch: `resume.epoch`, or `initial_epoch` of
            `fit`.
        drop_remainder: Whether a last batch that is smaller is left out. A compiled
            step is compiled again for it.
        **kwargs: `workers`, `use_multiprocessing` and `max_queue_size` of
            `keras.utils.PyDataset`.

    Attributes:
        epoch: Index of the current epoch: `first_epoch`, and one for each complete pass
            by `fit` or `evaluate`. (With `steps_per_epoch`, whose epochs are no
            complete passes, it stays as it is.)

    Raises:
        ValueError: Shapes do not fit, or an argument is out of range.

    Example:

    >>> train = DetectionDataset(
    ...     data.train, augment=SampleSpecificAugmentation(), seed=0
    ... )
    >>> distiller.fit(train, epochs=24, shuffle=False)
    """

    def __init__(
        self,
        images,
        labels=None,
        batch_size=8,
        *,
        augment=None,
        columns=None,
        bounding_box_format=None,
        scales=None,
        shuffle=True,
        seed=0,
        first_epoch=0,
        drop_remainder=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if isinstance(images, DetectionSplit):
            split, images = images, images.images
            labels = split.labels if labels is None else labels
            scales = split.scales if scales is None else scales
            bounding_box_format = bounding_box_format or split.bounding_box_format
        caller, count = "DetectionDataset", len(images)
        boxes, classes = validate_boxes(caller, labels, count)
        self.batch_size = check_positive_int(caller, "batch_size", batch_size)
        self.bounding_box_format = check_choice(
            caller, "bounding_box_format", bounding_box_format or "yxyx", BOX_FORMATS
        )
        self.columns = {name: _as_array(v) for name, v in (columns or {}).items()}
        self.scales = np.ones((count, 2)) if scales is None else np.asarray(scales)
        lengths = {name: len(column) for name, column in self.columns.items()}
        for name, length in {**lengths, "scales": len(self.scales)}.items():
            if length != count:
                raise ValueError(
                    f"`{caller}`: {name!r} has {length} rows, and there are {count} "
                    "images. Pass one row for each image."
                )
        self.images = images
        self.labels = {
            "boxes": boxes.astype("float32"),
            "labels": classes.astype("int32"),
        }
        self.augment, self.shuffle, self.seed = augment, shuffle, seed
        self.epoch, self.drop_remainder = first_epoch, drop_remainder
        self._batches_read: set = set()
        self._is_within_epoch = False

    def __len__(self):
        count, rest = divmod(len(self.images), self.batch_size)
        return count + (rest > 0 and not self.drop_remainder)

    def __getitem__(self, index):
        first = index * self.batch_size
        epoch = self._count_read(index)
        indices = self._order(epoch)[first : first + self.batch_size]
        if self.augment is None:
            x = np.stack([self.images[i] for i in indices])
            y = {name: values[indices] for name, values in self.labels.items()}
            columns = {n: np.asarray(c[indices]) for n, c in self.columns.items()}
        else:
            x, y, columns = self._augmented(indices, epoch)
        return (with_columns(x, **columns) if columns else x), y

    def on_epoch_begin(self):
        self._is_within_epoch = True

    def on_epoch_end(self):
        # `fit` ends an epoch before the first one, after it has inspected a batch.
        if self.use_multiprocessing and self._is_within_epoch:
            self.epoch += 1
        self._batches_read.clear()
        self._is_within_epoch = False

    def to_tf_dataset(self):
        """The same batches as a `tf.data.Dataset`, without workers.

        KerasHub's models take it in their own `fit`, where they take no `PyDataset`.
        """
        require_tensorflow("to_tf_dataset")
        import tensorflow as tf

        def spec(array):
            return tf.TensorSpec((None, *array.shape[1:]), array.dtype)

        def read_epoch():
            self.on_epoch_begin()
            for i in range(len(self)):
                yield self[i]
            self.on_epoch_end()

        signature = keras.tree.map_structure(spec, self[0])
        dataset = tf.data.Dataset.from_generator(read_epoch, output_signature=signature)
        return dataset.apply(tf.data.experimental.assert_cardinality(len(self)))

    def _count_read(self, index):
        """The epoch to which a read belongs; the last of a pass ends the epoch."""
        with _LOCK:
            epoch = self.epoch
            # Several workers may begin to read before the epoch does.
            if self._is_within_epoch or self.workers > 1:
                self._batches_read.add(index)
            # In other processes, reads are not counted here.
            if len(self._batches_read) == len(self) and not self.use_multiprocessing:
                self._batches_read.clear()
                self.epoch += 1
        return epoch

    def _order(self, epoch):
        count = len(self.images)
        if not self.shuffle:
            return np.arange(count)
        return np.random.default_rng([self.seed, epoch]).permutation(count)

    def _augmented(self, indices, epoch):
        samples = [self._augmented_sample(int(i), epoch) for i in indices]
        x = np.stack([sample.image for sample in samples])
        columns = {
            name: np.stack([sample.columns[name] for sample in samples])
            for name in self.columns
        }
        name, size = self.bounding_box_format, x.shape[1:3]
        boxes = [from_xyxy(sample.boxes, name, size) for sample in samples]
        max_boxes = self.labels["labels"].shape[1]
        labels = [sample.labels for sample in samples]
        return x, pad_boxes(boxes, labels, max_boxes), columns

    def _augmented_sample(self, index, epoch):
        image = np.asarray(self.images[index])
        labels = self.labels["labels"][index]
        is_box = labels >= 0
        boxes = self.labels["boxes"][index][is_box]
        sample = DetectionSample(
            image,
            to_xyxy(boxes, self.bounding_box_format, image.shape[:2]),
            labels[is_box],
            tuple(map(float, self.scales[index])),
            {name: np.asarray(c[index]) for name, c in self.columns.items()},
        )
        # Of its own for each image, so that workers need not take turns.
        rng = np.random.default_rng([self.seed, epoch, index])
        return self.augment(sample, rng)


def _as_array(column):
    # A memory map stays one.
    return column if isinstance(column, np.ndarray) else np.asarray(column)
