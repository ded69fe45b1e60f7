"""What compiled functions hold of layers, as it was when they were made."""

import dataclasses
import inspect
import operator
from typing import Any

from keras_dtkd.core.layer_tree import iter_layers

PLAIN_TYPES = (bool, int, float, str, type(None))
# A run sets these.
OF_RUNS = "built", "training", "train_function", "test_function", "predict_function"


def are_same(one, other):
    """Whether two lists hold the very same objects, in the same order."""
    return len(one) == len(other) and all(map(operator.is_, one, other))


@dataclasses.dataclass
class Snapshot:
    """Layers, and what a layer's Python code reads of itself.

    Attributes:
        objects: The layers, their functions, and what `adapt` gave them.
        variables: Variables.
        values: Of each layer its plain public attributes, and whether it trains.
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
        plain: dict = {}
        # Hyperparameters are not among them: they travel as variables.
        for name, value in vars(owner).items():
            if name.startswith("_") or name in OF_RUNS:
                continue
            if isinstance(value, PLAIN_TYPES):
                plain[name] = value
            elif inspect.isroutine(value) or is_adapted:
                objects.append(value)
            elif isinstance(value, list | tuple) and _are_plain(value):
                plain[name] = tuple(value)
        values.append(plain)
    return Snapshot(objects, list(variables), values)


def _are_plain(values):
    return all(isinstance(value, PLAIN_TYPES) for value in values)
