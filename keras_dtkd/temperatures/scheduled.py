"""A temperature that changes over the epochs."""

import keras
import numpy as np

from keras_dtkd.core.hyperparameters import Hyperparameter
from keras_dtkd.temperatures.base import Temperature, TemperaturePair


@keras.saving.register_keras_serializable("keras_dtkd")
class Scheduled(Temperature):
    """The same temperature for both models and all samples, another in each epoch.

    Unlike the callback of that name, it is a part of the loss: it is saved with it
    and needs nothing in `fit`.

    Args:
        schedule: A function of the epoch (from 0, as everywhere in Keras), or a
            `keras.optimizers.schedules.LearningRateSchedule`, called with the epoch.
            Positive in every epoch of a `fit`, which is checked when it begins. A
            function must be registered with Keras
            (`keras.saving.register_keras_serializable`) for the model to be loaded.

    Attributes:
        temperature: The current temperature. Until a first `fit`, that of epoch 0; a
            number set here holds until the next epoch begins.

    Call arguments:
        student_logits: `(..., classes)`.
        teacher_logits: `(..., classes)`.

    Returns:
        `Temperatures` of three scalars: T, T and the weight T².

    Raises:
        ValueError: `schedule` is neither; or it gives no finite number above 0.

    Reference:
        None: an ordinary annealing, as `keras_dtkd.callbacks.HyperparameterSchedule` does it.

    Example:

    >>> falling = keras.optimizers.schedules.CosineDecay(8.0, 60, alpha=0.25)
    >>> KD(temperature=Schedule(falling))
    """

    temperature = Hyperparameter(above=0.0)

    def __init__(self, schedule, **kwargs):
        super().__init__(**kwargs)
        if isinstance(schedule, dict):
            schedule = keras.saving.deserialize_keras_object(schedule)
        if not callable(schedule):
            raise ValueError(
                "`Schedule`: `schedule` must be a function of the epoch or a Keras "
                f"learning-rate schedule. Received: schedule={schedule!r}."
            )
        self.schedule = schedule
        self._checked = 0
        self.temperature = self._at(0)

    def call(self, student_logits, teacher_logits):
        """The scalars T, T and T²."""
        temperature = self.hyperparameter("temperature") + 0.0
        return TemperaturePair(temperature, temperature, temperature * temperature)

    def on_epoch_begin(self, epoch, epochs):
        """Sets the temperature of this epoch; looks at those to come, once.

        Raises:
            ValueError: One of them is not above 0.
        """
        super().on_epoch_begin(epoch, epochs)
        # A schedule that ends at 0 must not end a long run in its last epoch.
        for later in range(max(epoch, self._checked), epochs):
            self._at(later)
        self._checked = max(self._checked, epochs)
        self.temperature = self._at(epoch - 1)

    def _at(self, epoch):
        value = self.schedule(epoch)
        number = float(keras.ops.convert_to_numpy(value))
        if not (np.isfinite(number) and number > 0):
            raise ValueError(
                "`Schedule`: `schedule` must give a finite number above 0 in every "
                f"epoch. Received: schedule({epoch}) = {number:g}."
            )
        return number

    def get_config(self):
        """The arguments that make this rule again."""
        return {
            **super().get_config(),
            "schedule": keras.saving.serialize_keras_object(self.schedule),
        }
