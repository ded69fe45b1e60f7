"""A small detector with a pyramid, BatchNorm, and a loss of its own, and its data."""

import keras
import numpy as np
from keras import ops

SIDE, CLASSES = 32, 3
LEVELS = ["fpn[P3]", "fpn[P4]"]


def data(samples=8, seed=0):
    """Images of colored squares, one or two in each, and their boxes, xyxy."""
    rng = np.random.default_rng(seed)
    images = rng.uniform(0.4, 0.6, (samples, SIDE, SIDE, 3))
    boxes, labels = -np.ones((samples, 2, 4)), -np.ones((samples, 2))
    for i in range(samples):
        for j in range(rng.integers(1, 3)):
            size, label = rng.integers(10, 20), rng.integers(CLASSES)
            left, top = rng.integers(0, SIDE - size, 2)
            area = images[i, top : top + size, left : left + size]
            area[:] = 0.1
            area[..., label] = 0.9
            boxes[i, j], labels[i, j] = (left, top, left + size, top + size), label
    y = {"boxes": boxes.astype("float32"), "labels": labels.astype("int32")}
    return images.astype("float32"), y


@keras.saving.register_keras_serializable("tests")
class Pyramid(keras.layers.Layer):
    """Two levels, by name."""

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.convolutions = [
            keras.layers.Conv2D(width, 3, padding="same", name=f"conv_{i}")
            for i in range(2)
        ]

    def build(self, shapes):
        for convolution, shape in zip(self.convolutions, shapes, strict=True):
            convolution.build(shape)

    def call(self, inputs):
        first, second = (c(x) for c, x in zip(self.convolutions, inputs, strict=True))
        return {"P3": first, "P4": second}

    def compute_output_spec(self, inputs):
        return {
            name: keras.KerasTensor((*x.shape[:-1], self.width))
            for name, x in zip(("P3", "P4"), inputs, strict=True)
        }

    def get_config(self):
        return {**super().get_config(), "width": self.width}


@keras.saving.register_keras_serializable("tests")
class Detector(keras.Model):
    """Classes of the cells of the finer level, and a box for each.

    Its loss is the sum over cells of the cross-entropies, divided by the number of
    cells within boxes, and the distance of the boxes there.
    """

    bounding_box_format = "xyxy"

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        logits = y_pred["cls_logits"]
        side = int(logits.shape[1] ** 0.5)
        centers = (ops.arange(side, dtype="float32") + 0.5) * (SIDE / side)
        boxes = y["boxes"][:, :, None]
        inside = [
            ops.logical_and(centers > boxes[..., k], centers < boxes[..., k + 2])
            for k in (0, 1)
        ]
        inside = ops.logical_and(inside[1][..., None], inside[0][..., None, :])
        inside = ops.reshape(inside, (*ops.shape(inside)[:2], side * side))
        inside = ops.logical_and(inside, y["labels"][..., None] >= 0)
        classes = ops.one_hot(ops.maximum(y["labels"], 0), CLASSES)[:, :, None]
        target = ops.max(ops.cast(inside, "float32")[..., None] * classes, axis=1)
        count = ops.maximum(ops.sum(target), 1.0)
        entropies = ops.softplus(logits) - target * logits
        gaps = y_pred["boxes"][:, None] - y["boxes"][:, :, None] / SIDE
        gaps = ops.sum(gaps**2, -1) * ops.cast(inside, "float32")
        return (ops.sum(entropies) + ops.sum(gaps)) / count


def detector(width, seed=0, compiled=True):
    """With maps of 8 by 8 and 4 by 4 cells, `width` channels."""
    keras.utils.set_random_seed(seed)
    options = {"padding": "same", "strides": 2}
    inputs = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Conv2D(width, 3, **options, name="stem")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.ReLU()(x)
    c3 = keras.layers.Conv2D(width, 3, **options, activation="relu", name="c3")(x)
    c4 = keras.layers.Conv2D(width, 3, **options, activation="relu", name="c4")(c3)
    levels = Pyramid(width, name="fpn")([c3, c4])
    up = keras.layers.UpSampling2D(2)(levels["P4"])
    x = keras.layers.Dropout(0.1, seed=seed)(levels["P3"] + up)
    x = keras.layers.ReLU()(x)
    logits = keras.layers.Conv2D(CLASSES, 1, name="classes")(x)
    boxes = keras.layers.Conv2D(4, 1, name="regression")(x)
    outputs = {
        "cls_logits": keras.layers.Reshape((-1, CLASSES))(logits),
        "boxes": keras.layers.Reshape((-1, 4))(boxes),
    }
    model = Detector(inputs, outputs)
    if compiled:
        model.compile(keras.optimizers.Adam(0.01))
    return model
