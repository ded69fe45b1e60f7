"""Numbers that may be changed while training runs.

A Python number read inside a compiled step is baked into it. A knob is a number
outside (`loss.weight`, `loss.weight = 0.5`) and a scalar Keras variable inside
(`loss.hyperparameter("weight")`), so that a change takes effect without recompiling and is
saved with the model's state.
"""

import keras
import numpy as np

from keras_dtkd.core.layer_tree import iter_layers


class Hyperparameter:
    """A scalar attribute of a layer that a compiled step reads as a variable.

    Args:
        above: The value must be greater than this. Optional.
        minimum: The value must not be less than this. Optional.
        words: Values that are no numbers (`None`, `"auto"`), each with what the
            variable then holds, a number out of range. Optional.
    """

    def __init__(self, above=None, minimum=None, words=None):
        self.above = above
        self.minimum = minimum
        self.words = words or {}

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, layer, owner=None):
        if layer is None:
            return self
        try:
            return layer.__dict__[f"_{self.name}_number"]
        except KeyError:
            raise AttributeError(self.name) from None

    def __set__(self, layer, value):
        number = self.check(layer, value)
        # Straight into the dictionary: neither Keras nor torch has to track a
        # number, and JAX empties the variable while `fit` runs.
        layer.__dict__[f"_{self.name}_number"] = number
        variable = layer.__dict__.get(f"_{self.name}_variable")
        number = self.words.get(number, number)
        if variable is None:
            variable = layer.add_weight(
                shape=(),
                initializer=keras.initializers.Constant(number),
                trainable=False,
                dtype="float32",
                name=self.name,
            )
            layer.__dict__[f"_{self.name}_variable"] = variable
        else:
            variable.assign(number)

    def read(self, layer, number):
        """Takes the number that the variable was loaded with."""
        number = {held: word for word, held in self.words.items()}.get(number, number)
        layer.__dict__[f"_{self.name}_number"] = number

    def check(self, layer, value):
        """The value as a float, or as one of the knob's words.

        Raises:
            ValueError: It is no finite number in the knob's range.
        """
        if (value is None or isinstance(value, str)) and value in self.words:
            return value
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        wrong = not np.isfinite(number)
        rule = "a finite number"
        if self.above is not None:
            wrong, rule = wrong or number <= self.above, f"a number above {self.above}"
        if self.minimum is not None:
            wrong = wrong or number < self.minimum
            rule = f"a number of at least {self.minimum}"
        rule = " or ".join([rule, *map(repr, self.words)])
        if wrong:
            raise ValueError(
                f"`{type(layer).__name__}`: `{self.name}` must be {rule}. "
                f"Received: {self.name}={value!r}."
            )
        return number


def layers_with_hyperparameters(distiller):
    """The Distiller, and every part of its losses, that has knobs."""
    parts = iter_layers([distiller, distiller.distillation_losses])
    return [part for part in parts if isinstance(part, HyperparameterMixin)]


class HyperparameterMixin(keras.layers.Layer):
    """A Keras layer whose class has `Knob` attributes."""

    def hyperparameter(self, name):
        """The variable behind a knob, for use inside a compiled step."""
        return self.__dict__[f"_{name}_variable"]

    def push_hyperparameters(self):
        """Writes every number into its variable again.

        Under JAX a step's state overwrites what was assigned while an epoch ran.
        """
        for knob in self._hyperparameters():
            knob.__set__(self, getattr(self, knob.name))

    def load_own_variables(self, store):
        """Reads the variables, and with them the numbers."""
        super().load_own_variables(store)
        self.pull_hyperparameters()

    def pull_hyperparameters(self):
        """Takes every number from its variable again."""
        for knob in self._hyperparameters():
            number = keras.ops.convert_to_numpy(self.hyperparameter(knob.name).value)
            knob.read(self, float(number))

    def hyperparameter_names(self):
        """Names of the numbers that may be changed."""
        return [knob.name for knob in self._hyperparameters()]

    def _hyperparameters(self):
        for owner in type(self).__mro__:
            for attribute in vars(owner).values():
                if isinstance(attribute, Hyperparameter) and hasattr(
                    self, attribute.name
                ):
                    yield attribute
