"""Numbers that may be changed while training runs.

A `Hyperparameter` is a number outside of a compiled step (`loss.weight = 0.5`) and a
scalar Keras variable inside (`loss.hyperparameter("weight")`): a change takes effect
without recompiling, and is saved with the model's state.
"""

import keras
import numpy as np

from keras_dtkd.core.arguments import constructor_arguments
from keras_dtkd.core.layer_tree import iter_layers


class Hyperparameter:
    """A scalar attribute of a layer that a compiled step reads as a variable.

    Args:
        greater_than: The value must be greater than this. Optional.
        minimum: The value must not be less than this. Optional.
        maximum: The value must not be more than this. Optional.
        aliases: Values that are no numbers (`None`, `"auto"`), each with what the
            variable then holds, a number out of range. Optional.

    Example:

    >>> class Margin(DistillationLoss):
    ...     margin = Hyperparameter(minimum=0.0)
    ...     def __init__(self, margin=1.0, **kwargs):
    ...         super().__init__(**kwargs)
    ...         self.margin = margin
    ...     def call(self, student_logits, teacher_logits, labels=None):
    ...         distance = ops.mean(ops.abs(student_logits - teacher_logits), axis=-1)
    ...         return ops.relu(distance - self.hyperparameter("margin"))
    """

    def __init__(self, greater_than=None, minimum=None, maximum=None, aliases=None):
        self.greater_than = greater_than
        self.minimum = minimum
        self.maximum = maximum
        self.aliases = aliases or {}

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
        number = self.validate(layer, value)
        # Straight into the dictionary: neither Keras nor torch has to track a
        # number, and JAX empties the variable while `fit` runs.
        layer.__dict__[f"_{self.name}_number"] = number
        variable = layer.__dict__.get(f"_{self.name}_variable")
        number = self.aliases.get(number, number)
        if variable is None:
            initializer = keras.initializers.Constant(number)
            options = {"trainable": False, "dtype": "float32", "name": self.name}
            variable = layer.add_weight((), initializer, **options)
            layer.__dict__[f"_{self.name}_variable"] = variable
        else:
            variable.assign(number)

    def validate(self, layer, value):
        """The value as a float, or as one of the aliases; or a `ValueError`."""
        if (value is None or isinstance(value, str)) and value in self.aliases:
            return value
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        wrong, rule = not np.isfinite(number), "a finite number"
        if self.greater_than is not None:
            wrong = wrong or number <= self.greater_than
            rule = f"a number above {self.greater_than}"
        if self.minimum is not None:
            wrong = wrong or number < self.minimum
            rule = f"a number of at least {self.minimum}"
        if self.maximum is not None:
            wrong = wrong or number > self.maximum
            rule = f"a number from {self.minimum} to {self.maximum}"
        rule = " or ".join([rule, *map(repr, self.aliases)])
        if wrong:
            raise ValueError(
                f"`{type(layer).__name__}`: `{self.name}` must be {rule}. "
                f"Received: {self.name}={value!r}."
            )
        return number


def layers_with_hyperparameters(distiller):
    """The Distiller and all layers of its losses that have hyperparameters."""
    layers = iter_layers(distiller)
    return [layer for layer in layers if isinstance(layer, HyperparameterMixin)]


class HyperparameterMixin(keras.layers.Layer):
    """A Keras layer whose class has `Hyperparameter` attributes.

    Its configuration is the constructor's arguments, as the attributes of their names
    are now. A class that keeps an argument otherwise must override `get_config`.
    """

    def hyperparameter(self, name):
        """The variable behind a hyperparameter, for use inside a compiled step."""
        return self.__dict__[f"_{name}_variable"]

    def push_hyperparameters(self):
        """Assigns every number again: under JAX a step's state overwrites variables."""
        for hyperparameter in self._hyperparameters():
            hyperparameter.__set__(self, getattr(self, hyperparameter.name))

    def load_own_variables(self, store):
        super().load_own_variables(store)
        self.pull_hyperparameters()

    def pull_hyperparameters(self):
        """Takes every number over from its variable: it may have been loaded."""
        for hyperparameter in self._hyperparameters():
            name, aliases = hyperparameter.name, hyperparameter.aliases
            value = keras.ops.convert_to_numpy(self.hyperparameter(name))
            number = getattr(self, name)
            if np.float32(aliases.get(number, number)) == value:
                continue
            # The shortest that float32 rounds to it: 0.1, not 0.10000000149.
            number = float(str(np.float32(value)))
            alias_of = {value: alias for alias, value in aliases.items()}
            self.__dict__[f"_{name}_number"] = alias_of.get(number, number)

    def hyperparameter_names(self):
        return [hyperparameter.name for hyperparameter in self._hyperparameters()]

    def _hyperparameters(self):
        attributes = (a for cls in type(self).__mro__ for a in vars(cls).values())
        for attribute in attributes:
            if isinstance(attribute, Hyperparameter) and hasattr(self, attribute.name):
                yield attribute

    def get_config(self):
        arguments = constructor_arguments(self, HyperparameterMixin)
        return {**super().get_config(), **arguments}
