"""Numbers as tensors."""

from keras import ops


def make_scalar(value, like):
    """A number as a tensor, of the dtype of another one.

    Made on the device: PyTorch copies a Python number that is an argument of an
    operation to a GPU, and waits until all work before the copy is done.
    """
    return value * ops.ones((), dtype=like.dtype)
