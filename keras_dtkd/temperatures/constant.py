"""One temperature for every sample."""

import keras

from keras_dtkd.core.hyperparameters import Hyperparameter
from keras_dtkd.temperatures.base import Temperature, TemperaturePair


@keras.saving.register_keras_serializable("keras_dtkd")
class Constant(Temperature):
    """The same temperature for teacher and student, and for every sample.

    Args:
        temperature: T. Positive. Can be changed during training.

    Call arguments:
        student_logits, teacher_logits: `(..., classes)`.

    Returns:
        `TemperaturePair` of three scalars: T, T and the weight T².

    Raises:
        ValueError: `temperature` is not above 0.

    Reference:
        Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network",
        arXiv 1503.02531, section 2.

    Example:

    >>> KD(temperature=Constant(4.0))  # the same as KD(temperature=4.0)
    """

    temperature = Hyperparameter(greater_than=0.0)

    def __init__(self, temperature=4.0, **kwargs):
        super().__init__(**kwargs)
        self.temperature = temperature

    def call(self, student_logits, teacher_logits):
        return TemperaturePair.equal(self.hyperparameter("temperature") + 0.0)

    def __float__(self):
        return self.temperature
