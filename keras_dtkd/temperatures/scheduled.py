"""A temperature that changes over the epochs."""

import keras
import numpy as np

from keras_dtkd.core.epoch_schedule import check_schedule, evaluate_schedule
from keras_dtkd.core.hyperparameters import Hyperparameter
from keras_dtkd.temperatures.base import Temperature, TemperaturePair


@keras.saving.register_keras_serializable("keras_dtkd")
class Scheduled(Temperature):
    """The same temperature for both models and all samples, set anew in each epoch.

    Unlike `callbacks.HyperparameterSchedule`, it is a part of the loss: it is saved
    with it, and `fit` needs no callback.

    Args:
        schedule: A function of the epoch (from 0, as everywhere in Keras), or a
            `keras.optimizers.schedules.LearningRateSchedule`, called with the epoch.
            Must be positive in every epoch of a `fit`, which is validated when `fit`
            begins. For the model to be loaded, a function must be registered with
            Keras (`keras.saving.register_keras_serializable`).

    Attributes:
        temperature: The current temperature. Before the first `fit`, that of epoch 0; a
            number set here holds until the next epoch begins.

    Call arguments:
        student_logits, teacher_logits: `(..., classes)`.

    Returns:
        `TemperaturePair` of three scalars: T, T and the weight T².

    Raises:
        ValueError: `schedule` is neither of these, or its value is not a finite number
            above 0.

    Example:

    >>> cosine = keras.optimizers.schedules.CosineDecay(8.0, 60, alpha=0.25)
    >>> KD(temperature=Scheduled(cosine))
    """

    temperature = Hyperparameter(greater_than=0.0)

    def __init__(self, schedule, **kwargs):
        super().__init__(**kwargs)
        if isinstance(schedule, dict):
            schedule = keras.saving.deserialize_keras_object(schedule)
        self.schedule = check_schedule("Scheduled", schedule)
        self._num_validated_epochs = 0
        self.temperature = self._temperature_at(0)

    def call(self, student_logits, teacher_logits):
        return TemperaturePair.equal(self.hyperparameter("temperature") + 0.0)

    def on_epoch_begin(self, epoch, epochs):
        """Sets the temperature of this epoch and validates the later ones, once."""
        super().on_epoch_begin(epoch, epochs)
        # A schedule that ends at 0 must not stop a long run in its last epoch.
        for later in range(max(epoch, self._num_validated_epochs), epochs):
            self._temperature_at(later)
        self._num_validated_epochs = max(self._num_validated_epochs, epochs)
        self.temperature = self._temperature_at(epoch - 1)

    def _temperature_at(self, epoch):
        number = evaluate_schedule("Scheduled", self.schedule, epoch)
        if not (np.isfinite(number) and number > 0):
            raise ValueError(
                "`Scheduled`: `schedule` must return a finite number above 0 in every "
                f"epoch. Received: schedule({epoch}) = {number:g}."
            )
        return number
