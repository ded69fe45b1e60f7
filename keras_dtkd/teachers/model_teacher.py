"""A model that teaches as it is."""

import hashlib
import inspect

import keras
import numpy as np

from keras_dtkd.teachers.base import Teacher


class ModelTeacher(Teacher):
    """A Keras model as teacher: one forward pass in inference mode for each batch.

    A model that draws random numbers at inference (Monte Carlo dropout) draws new ones
    in each step; its own random state stays as it is.

    Args:
        model: A `keras.Model`. It is held, never tracked: its weights, its optimizer
            and its `trainable` flag stay as they are.

    Example:

    >>> Distiller(ModelTeacher(teacher), student)  # as Distiller(teacher, student)
    """

    def __init__(self, model):
        self.model = model
        parameters = inspect.signature(model.call).parameters
        self._inference = {"training": False} if "training" in parameters else {}

    @property
    def variables(self):
        return self.model.variables

    @property
    def seed_variables(self):
        """The random states of its layers: Keras has them in none of its files."""
        weights = {id(weight) for weight in self.model.weights}
        return [v for v in self.model.variables if id(v) not in weights]

    @property
    def output_names(self):
        """Names of the model's outputs, or `None`."""
        return getattr(self.model, "output_names", None)

    def outputs(self, x, sample_ids=None):
        return self.model(x, **self._inference)

    def fingerprint(self):
        """A digest of the model's weights, see `weights_fingerprint`."""
        return weights_fingerprint(self.model)


def weights_fingerprint(model):
    """A digest of a built model's weights: shapes, dtypes and bytes, in order.

    32 hexadecimal digits. The names of layers do not matter, so the same model loaded
    again has the same fingerprint.
    """
    digest = hashlib.blake2b(digest_size=16)
    for weight in model.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
        digest.update(f"{value.shape}{value.dtype.name}".encode())
        # No copy: a teacher may be large, and each `fit` begins here.
        digest.update(value.reshape(-1).view("uint8").data)
    return digest.hexdigest()
