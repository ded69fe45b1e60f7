"""What a trained network is worth on a part of the images."""

import keras
import numpy as np

from keras_dtkd.cli import images
from keras_dtkd.metrics import ExpectedCalibrationError


def load(path):
    """A network that was saved, to be measured."""
    return keras.saving.load_model(path, compile=False)


def outputs(model, found, part):
    """Its logits for a part of `Images`, NumPy, float32, in the part's order."""
    logits = model.predict(images.in_order(found, part), verbose=0)
    return np.asarray(logits, "float32")


def accuracy(model, found, part):
    """Share of the images whose greatest logit is their label's."""
    return float((outputs(model, found, part).argmax(-1) == part[1]).mean())


def all_of(model, found, part):
    """The measures that `evaluate` tells."""
    logits, labels = outputs(model, found, part), part[1]
    entropy = keras.losses.sparse_categorical_crossentropy(
        labels, logits, from_logits=True
    )
    top = keras.metrics.sparse_top_k_categorical_accuracy(labels, logits, k=5)
    error = ExpectedCalibrationError()
    error.update_state(labels, logits)
    return {
        "images": len(labels),
        "accuracy": float((logits.argmax(-1) == labels).mean()),
        "top_5_accuracy": float(keras.ops.mean(keras.ops.cast(top, "float32"))),
        "cross_entropy": float(keras.ops.mean(entropy)),
        "calibration_error": float(error.result()),
    }
