"""What compiled functions hold of layers, as it was when they were made."""

import dataclasses
import functools
import inspect
import operator
from typing import Any

import keras
import numpy as np

from keras_dtkd.core.layer_tree import iter_layers

PLAIN_TYPES = (bool, int, float, str, type(None))
# Elements of an array that is compared by its values.
SMALL_ARRAY = 10_000
# A run sets these.
OF_RUNS = "built", "training", "train_function", "test_function", "predict_function"


def are_same(one, other):
    """Whether two lists hold the very same objects, in the same order."""
    return len(one) == len(other) and all(map(operator.is_, one, other))


@dataclasses.dataclass
class Snapshot:
    """Layers, and what a layer's Python code reads of itself.

    Attributes:
        objects: The layers, their functions and regularizers, and what `adapt` gave
            them. No other tensors: a layer may keep one of each call.
        variables: Variables.
        values: Of each layer its public attributes that are plain or made of plain
            ones, those of its regularizers, and whether it trains.
    """

    objects: list
    variables: list
    values: Any

    def is_same(self, other):
        """Whether nothing has changed."""
        return (
            are_same(self.objects, other.objects)
            and are_same(self.variables, other.variables)
            and self.values == other.values
        )


def take_snapshot(structure, variables, others=()):
    """The `Snapshot` of nested layers, variables, and objects that are no layers."""
    layers = list(iter_layers(structure))
    objects = [*layers]
    values: list = [(layer.trainable, layer.dtype_policy.name) for layer in layers]
    for owner in (*layers, *others):
        # A layer that adapts to data holds tensors that are no variables.
        is_adapted = hasattr(owner, "adapt")
        # Hyperparameters are not among them: they travel as variables.
        plain, rest = _split(vars(owner))
        for name, value in rest.items():
            is_regularizer = isinstance(value, keras.regularizers.Regularizer)
            is_partial = isinstance(value, functools.partial)
            is_function = is_partial or inspect.isroutine(value)
            if is_regularizer or is_function or is_adapted:
                objects.append(value)
            if is_regularizer:
                plain[name], _ = _split(vars(value))
        if isinstance(owner, keras.layers.Lambda):
            # No other dicts: layers count in them.
            plain["arguments"], _ = _split(owner.arguments)
        values.append(plain)
    return Snapshot(objects, list(variables), values)


def _split(attributes):
    """The public attributes: copies of those made of plain values, and the others."""
    plain, others = {}, {}
    for name, value in attributes.items():
        if not name.startswith("_") and name not in OF_RUNS:
            try:
                plain[name] = _copy(value)
            except TypeError:
                others[name] = value
    return plain, others


def _copy(value):
    """A copy that compares equal; a `TypeError` for what is not plain."""
    if isinstance(value, PLAIN_TYPES):
        return value
    if isinstance(value, list | tuple):
        return tuple(map(_copy, value))
    if isinstance(value, np.ndarray | np.generic) and value.size <= SMALL_ARRAY:
        return value.shape, value.dtype.str, value.tobytes()
    raise TypeError
