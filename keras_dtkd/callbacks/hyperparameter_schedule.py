"""A hyperparameter that changes over the epochs."""

import numbers

import keras

from keras_dtkd.core.epoch_schedule import check_schedule, evaluate_schedule
from keras_dtkd.core.hyperparameters import Hyperparameter, HyperparameterMixin


class HyperparameterSchedule(keras.callbacks.Callback):
    """Sets one number of the Distiller before each epoch, by its name.

    Args:
        name: `"task_weight"`, or the name of a loss and of one of its numbers:
            `"dtkd.weight"`, `"dtkd.alpha"`, `"kd.temperature"`. Longer paths reach
            further in: `"dtkd.temperature.min_temperature"`. A number of a class of
            your own must be declared in it, see `keras_dtkd.Hyperparameter`.
        schedule: A function of the epoch (from 0, as everywhere in Keras), or a
            `keras.optimizers.schedules.LearningRateSchedule`, called with the epoch.
        verbose: 1 prints each new value. The history holds it in any case.

    Raises:
        ValueError: At the beginning of `fit`: nothing has that name, or what has it
            cannot change while training runs.

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
        """The layer that has the number, under the last part of the name."""
        owner = self.model
        *path, last = self.name.split(".")
        losses = getattr(owner, "distillation_losses", {})
        for i, part in enumerate(path):
            known = losses.get(part) if i == 0 else None
            owner = getattr(owner, part, None) if known is None else known
        if last == "temperature" and not _is_settable(owner, last):
            # A loss of the user's own, with its `Temperature` as a plain attribute.
            inner = getattr(owner, last, None)
            owner = inner if _is_settable(inner, last) else owner
        if not _is_settable(owner, last):
            names = [
                f"{name}.{number}" for name in losses for number in _names(losses[name])
            ]
            raise ValueError(
                f"`HyperparameterSchedule`: {_problem(self.name, owner, last)} Known "
                f"are: {', '.join(map(repr, ['task_weight', *names]))}."
            )
        return owner


def _is_settable(owner, name):
    """Whether a number set under this name reaches a compiled step."""
    if not isinstance(owner, HyperparameterMixin):
        return False
    for cls in type(owner).__mro__:
        if cls is HyperparameterMixin:
            break
        if name in vars(cls):
            attribute = vars(cls)[name]
            has_setter = getattr(attribute, "fset", None) is not None
            return has_setter or isinstance(attribute, Hyperparameter)
    return False


def _problem(name, owner, last):
    if not hasattr(owner, last):
        return f"there is no {name!r}."
    value, class_name = getattr(owner, last), type(owner).__name__
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if is_number and isinstance(owner, HyperparameterMixin):
        return (
            f"{name!r} is a plain number, and a compiled step keeps the first one. "
            f"Declare `{last} = keras_dtkd.Hyperparameter()` in the class "
            f'`{class_name}`, and read `self.hyperparameter("{last}")` in its `call`.'
        )
    return f"{name!r} is no hyperparameter: it cannot change while training runs."


def _names(layer):
    """The names of a layer's hyperparameters, and of its temperature's."""
    if not isinstance(layer, HyperparameterMixin):
        return []
    inner = _names(getattr(layer, "temperature", None))
    # Setting a loss's temperature to a number sets that of its `Temperature`.
    reached = (n if n == "temperature" else f"temperature.{n}" for n in inner)
    return [*layer.hyperparameter_names(), *reached]
