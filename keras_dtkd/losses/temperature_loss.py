"""A loss on outputs that one temperature rule softens."""

import keras

from keras_dtkd.losses.base import DistillationLoss
from keras_dtkd.temperatures import base as temperatures


class TemperatureLoss(DistillationLoss):
    """Base of the losses that take a `temperature`.

    In `call` the rule is `self._rule`; it is given `sample_weight` too, for those that
    couple the batch.

    Args:
        temperature: A positive number, or any `keras_dtkd.temperatures` rule.
        **kwargs: As `DistillationLoss`.

    Raises:
        ValueError: A temperature not above 0, or what `DistillationLoss` refuses.
    """

    def __init__(self, temperature, **kwargs):
        super().__init__(**kwargs)
        self._rule = temperatures.get(temperature)

    @property
    def temperature(self):
        """The temperature rule. Set it to a number to change its temperature."""
        return self._rule

    @temperature.setter
    def temperature(self, value):
        self._rule.temperature = value

    def get_config(self):
        """The arguments that make this loss again."""
        rule = keras.saving.serialize_keras_object(self._rule)
        return {**super().get_config(), "temperature": rule}
