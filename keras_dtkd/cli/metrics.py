"""What a trained network is worth on a part of the images."""

import keras

from keras_dtkd.cli import data
from keras_dtkd.cli.errors import UserError
from keras_dtkd.core import logits
from keras_dtkd.metrics import ExpectedCalibrationError


def load(path):
    """A network that was saved, to be measured."""
    return keras.saving.load_model(path, compile=False)


def outputs(model, found, part):
    """Its logits for a part of `Images`, NumPy, float32, in the part's order.

    Raises:
        Refused: It gives no logits of one label each, and no softmax of them.
    """
    said = model.predict(data.in_order(found, part), verbose=0)
    head = logits.infer_output_kind(model)
    if head is None and logits.look_like_probabilities(said):
        head = logits.SOFTMAX
    if head == logits.SIGMOID:
        raise UserError(
            "this network ends with a sigmoid, which judges each class by itself: what "
            "is measured here is a choice of one class. Give one that ends with logits "
            "or a softmax."
        )
    recovered = logits.to_logits(said, head or logits.LOGITS)
    return keras.ops.convert_to_numpy(recovered)


def accuracy(model, found, part):
    """Share of the images whose greatest logit is their label's."""
    return float((outputs(model, found, part).argmax(-1) == part[1]).mean())


def all_of(model, found, part):
    """The measures that `evaluate` tells."""
    z, labels = outputs(model, found, part), part[1]
    entropy = keras.losses.sparse_categorical_crossentropy(labels, z, from_logits=True)
    top = keras.metrics.sparse_top_k_categorical_accuracy(labels, z, k=5)
    error = ExpectedCalibrationError()
    error.update_state(labels, z)
    return {
        "images": len(labels),
        "accuracy": float((z.argmax(-1) == labels).mean()),
        "top_5_accuracy": float(keras.ops.mean(keras.ops.cast(top, "float32"))),
        "cross_entropy": float(keras.ops.mean(entropy)),
        "calibration_error": float(error.result()),
    }
