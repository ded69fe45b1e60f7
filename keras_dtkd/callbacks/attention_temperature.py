"""The temperature of attention over the epochs."""

import keras
import numpy as np

from keras_dtkd.callbacks.attention_layers import find_attention_layers
from keras_dtkd.core.arguments import check_in_range
from keras_dtkd.core.epoch_schedule import check_schedule, evaluate_schedule

# Epochs whose temperature is checked before the first step.
MAX_CHECKED_EPOCHS = 1000


def published_schedule(epoch):
    """KDExplainer's temperature: 10 / (epoch + 1), from epoch 0."""
    return 10.0 / (epoch + 1)


class AttentionTemperature(keras.callbacks.Callback):
    """Sets the temperature of all attentions of a student before each epoch.

    These are all layers with a variable `attention_temperature`, as the
    `models.TaskAttention` of a `models.HierarchicalMixture`. The log
    `attention_temperature` holds the value. It depends on the epoch alone: a resumed
    run continues with it.

    Args:
        schedule: A function of the epoch (from 0), or a
            `keras.optimizers.schedules.LearningRateSchedule`, to a positive number.
            `None` for the published `10 / (epoch + 1)`.

    Raises:
        ValueError: `schedule` is no function. At the beginning of `fit`: the model has
            no attention, or the value of some epoch is not positive.

    Reference:
        Xue et al., "KDExplainer", arXiv 2105.04181; the schedule is that of the
        authors' code.

    Example:

    >>> temperature = AttentionTemperature(lambda epoch: max(0.1, 0.9**epoch))
    >>> distiller.fit(x, y, epochs=60, callbacks=[temperature])
    """

    def __init__(self, schedule=None):
        super().__init__()
        schedule = published_schedule if schedule is None else schedule
        self.schedule = check_schedule(type(self).__name__, schedule)

    def on_train_begin(self, logs=None):
        self._layers = find_attention_layers("AttentionTemperature", self.model)
        last = (self.params or {}).get("epochs", 1) - 1
        for epoch in np.unique(np.linspace(0, last, MAX_CHECKED_EPOCHS).astype(int)):
            self._evaluate(int(epoch))

    def on_epoch_begin(self, epoch, logs=None):
        self._value = self._evaluate(epoch)
        for layer in self._layers:
            layer.attention_temperature.assign(self._value)

    def _evaluate(self, epoch):
        caller = type(self).__name__
        value = evaluate_schedule(caller, self.schedule, epoch)
        return check_in_range(caller, f"schedule({epoch})", value, 0.0)

    def on_epoch_end(self, epoch, logs=None):
        """Adds the temperature to the logs, as Keras does the learning rate."""
        if logs is not None:
            logs["attention_temperature"] = self._value

    def on_train_end(self, logs=None):
        self._layers = []
