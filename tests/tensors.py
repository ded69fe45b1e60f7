"""From NumPy to tensors of the running backend, and back."""

import numpy as np
from keras import ops


def tensor(array, dtype="float32"):
    return ops.convert_to_tensor(array, dtype)


def tensors(*arrays):
    return [tensor(array) for array in arrays]


def numpy(value):
    """A copy, float64."""
    return np.array(ops.convert_to_numpy(value), "float64")
