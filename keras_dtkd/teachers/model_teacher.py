"""A model that teaches as it is."""

import inspect

from keras_dtkd.core.fingerprint import model_fingerprint
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
        """A digest of the model's weights, see `model_fingerprint`."""
        return model_fingerprint(self.model)
