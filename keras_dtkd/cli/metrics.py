"""Metrics of a trained network on a part of the images."""

import keras

from keras_dtkd.cli import data
from keras_dtkd.cli.errors import UserError
from keras_dtkd.core import logits
from keras_dtkd.metrics import ExpectedCalibrationError


def load_model(path):
    """Loads a saved network for evaluation."""
    return keras.saving.load_model(path, compile=False)


def predict_logits(model, images, part):
    """Logits of a network that ends with logits or a softmax: float32, NumPy."""
    outputs = model.predict(data.sequential_batches(images, part), verbose=0)
    output_kind = logits.infer_output_kind(model)
    if output_kind is None and logits.look_like_probabilities(outputs):
        output_kind = logits.SOFTMAX
    if output_kind == logits.SIGMOID:
        raise UserError(
            "this network ends with a sigmoid, which treats each class independently, "
            "but the metrics need one class per image. Give a network that ends with "
            "logits or a softmax."
        )
    recovered = logits.to_logits(outputs, output_kind or logits.LOGITS)
    return keras.ops.convert_to_numpy(recovered)


def accuracy(model, images, part):
    """Top-1 accuracy on a part of the images."""
    return float((predict_logits(model, images, part).argmax(-1) == part[1]).mean())


def evaluate_all(model, images, part):
    """All metrics of the `evaluate` command."""
    z, labels = predict_logits(model, images, part), part[1]
    entropy = keras.losses.sparse_categorical_crossentropy(labels, z, from_logits=True)
    top_5 = keras.metrics.sparse_top_k_categorical_accuracy(labels, z, k=5)
    calibration_error = ExpectedCalibrationError()
    calibration_error.update_state(labels, z)
    return {
        "images": len(labels),
        "accuracy": float((z.argmax(-1) == labels).mean()),
        "top_5_accuracy": float(keras.ops.mean(keras.ops.cast(top_5, "float32"))),
        "cross_entropy": float(keras.ops.mean(entropy)),
        "calibration_error": float(calibration_error.result()),
    }
