"""A tiny detector without KerasHub, and images of its boxes."""

import keras
import numpy as np
from keras import ops

SIDE = 16
# Cells of 8x8 pixels, in yxyx.
CELLS = np.array([[y, x, y + 8, x + 8] for y in (0, 8) for x in (0, 8)], "float32")


@keras.saving.register_keras_serializable("tests")
class CellDetector(keras.Model):
    """Scores two classes in each of four cells; `predict` decodes boxes."""

    bounding_box_format = "yxyx"

    def __init__(self, seed=0, **kwargs):
        super().__init__(**kwargs)
        initializer = keras.initializers.GlorotUniform(seed)
        self.scores = keras.layers.Conv2D(
            2, 8, strides=8, kernel_initializer=initializer, name="scores"
        )
        self.scores.build((None, SIDE, SIDE, 3))
        self.built = True

    def call(self, images):
        return {"logits": ops.reshape(self.scores(images), (-1, 4, 2))}

    def compute_loss(self, x, y, y_pred, sample_weight=None, **kwargs):
        logits = y_pred["logits"]
        target = ops.one_hot(y["labels"], 2, dtype=logits.dtype)
        return ops.mean(ops.binary_crossentropy(target, logits, from_logits=True))

    def predict_step(self, *args):
        # JAX has the state of the model before the data, and returns both.
        outputs = super().predict_step(*args)
        if isinstance(outputs, tuple):
            return self.decode(outputs[0]), outputs[1]
        return self.decode(outputs)

    def decode(self, outputs):
        probs = ops.sigmoid(outputs["logits"])
        confidence = ops.max(probs, -1)
        found = confidence > 0.5
        boxes = ops.repeat(CELLS[None], ops.shape(probs)[0], axis=0)
        return {
            "boxes": boxes,
            "labels": ops.where(found, ops.argmax(probs, -1), -1),
            "confidence": confidence,
        }


def draw(count=16, seed=0):
    """Images with a bright square, red or green, in some cells: `x, y` of `fit`.

    Rows of labels are cells; one without an object is -1.
    """
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 0.1, (count, SIDE, SIDE, 3)).astype("float32")
    labels = rng.integers(-1, 2, (count, 4)).astype("int32")
    boxes = np.where(labels[..., None] >= 0, CELLS, np.float32(-1))
    for i, cell in zip(*np.nonzero(labels >= 0), strict=True):
        top, left, bottom, right = CELLS[cell].astype(int)
        x[i, top:bottom, left:right, labels[i, cell]] += 0.8
    return x, {"boxes": boxes, "labels": labels}
