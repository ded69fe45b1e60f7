"""A hyperparameter that changes over the epochs."""

import keras

from keras_dtkd.callbacks.epoch_schedule import check_schedule, evaluate_schedule
from keras_dtkd.core.hyperparameters import HyperparameterMixin


class HyperparameterSchedule(keras.callbacks.Callback):
    """Sets one number of the Distiller before each epoch, by its name.

    Args:
        name: `"task_weight"`, or the name of a loss and of one of its numbers:
            `"dtkd.weight"`, `"dtkd.alpha"`, `"kd.temperature"`. Longer paths reach
            further in: `"dtkd.temperature.min_temperature"`.
        schedule: A function of the epoch (from 0, as everywhere in Keras), or a
            `keras.optimizers.schedules.LearningRateSchedule`, called with the epoch.
        verbose: 1 prints each new value. The history holds it in any case.

    Raises:
        ValueError: At the beginning of `fit`: nothing has that name.

    Example:

    >>> linear = lambda epoch: max(0.0, 1 - epoch / 50)
    >>> fade = HyperparameterSchedule("dtkd.weight", linear)
    >>> distiller.fit(x, y, epochs=60, callbacks=[fade])
    """

    def __init__(self, name, schedule, verbose=0):
        super().__init__()
        self.schedule = check_schedule(type(self).__name__, schedule)
        self.name, self.verbose = name, verbose

    def on_train_begin(self, logs=None):
        # An unknown name is an error before the first step.
        self._owner()

    def on_epoch_begin(self, epoch, logs=None):
        caller = type(self).__name__
        self._value = evaluate_schedule(caller, self.schedule, epoch)
        setattr(self._owner(), self.name.rpartition(".")[2], self._value)
        if self.verbose:
            print(f"\nEpoch {epoch + 1}: {self.name} = {self._value:g}")

    def on_epoch_end(self, epoch, logs=None):
        """Adds the number to the logs, as Keras does the learning rate."""
        if logs is not None:
            logs[self.name] = self._value

    def _owner(self):
        owner = self.model
        *path, last = self.name.split(".")
        losses = getattr(owner, "distillation_losses", {})
        for i, part in enumerate(path):
            known = losses.get(part) if i == 0 else None
            owner = getattr(owner, part, None) if known is None else known
        if not hasattr(owner, last):
            names = [
                f"{name}.{number}" for name in losses for number in _names(losses[name])
            ]
            raise ValueError(
                f"`HyperparameterSchedule`: there is no {self.name!r}. Known are: "
                f"{', '.join(map(repr, ['task_weight', *names]))}."
            )
        return owner


def _names(layer):
    """The names of a layer's hyperparameters, and of its temperature's."""
    if not isinstance(layer, HyperparameterMixin):
        return []
    inner = _names(getattr(layer, "temperature", None))
    # Setting a loss's temperature to a number sets that of its `Temperature`.
    reached = (n if n == "temperature" else f"temperature.{n}" for n in inner)
    return [*layer.hyperparameter_names(), *reached]
