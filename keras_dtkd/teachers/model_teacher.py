"""A model that teaches as it is."""

import inspect

from keras_dtkd.teachers.fingerprint import weights_fingerprint


class ModelTeacher:
    """A Keras model as teacher: one forward pass in inference mode for each batch.

    Args:
        model: A `keras.Model`. It is held, never tracked: its weights, its optimizer
            and its `trainable` flag stay as they are.

    Example:

    >>> Distiller(Live(teacher), student)  # the same as Distiller(teacher, student)
    """

    def __init__(self, model):
        self.model = model
        parameters = inspect.signature(model.call).parameters
        self._inference = {"training": False} if "training" in parameters else {}

    @property
    def variables(self):
        """All the model's variables."""
        return self.model.variables

    def outputs(self, x, rows=None):
        """The model's outputs for a batch, in inference mode."""
        return self.model(x, **self._inference)

    def fingerprint(self):
        """See `keras_dtkd.teachers.weights_fingerprint`."""
        return weights_fingerprint(self.model)
