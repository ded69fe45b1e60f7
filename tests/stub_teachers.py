"""Teachers that say what they are given, and what an ensemble makes of it."""

import keras
import numpy as np

from keras_dtkd import backend
from keras_dtkd.teachers import Ensemble


class Says:
    """A teacher that says what it is given."""

    variables: list = []

    def __init__(self, says, head=None):
        self.says = says
        if head is not None:
            self.head = head

    def outputs(self, x, rows=None):
        return keras.tree.map_structure(keras.ops.convert_to_tensor, self.says)

    def fingerprint(self):
        return str(self.says)


def draw(*shape, scale=3.0, seed=0):
    return np.random.default_rng(seed).normal(scale=scale, size=shape)


def heard(teacher, x=None):
    """What a teacher says of inputs, as NumPy."""
    return keras.tree.map_structure(
        keras.ops.convert_to_numpy, backend.teacher_forward(teacher, x)
    )


def of(*said, weights=None, in_="logits"):
    """The mean of what teachers say, or of arrays."""
    members = [s if isinstance(s, Says) else Says(s.astype("float32")) for s in said]
    return heard(Ensemble(members, weights, in_))
