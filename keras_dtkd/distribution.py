"""Several processes under `torchrun`: who am I, and which rows are mine?

On TensorFlow and JAX, Keras itself distributes the data and nothing here is needed.
"""

import keras
import numpy as np

from keras_dtkd import backend


def rank():
    """This process's number, from 0. 0 where there is one process."""
    return backend.processes()[0]


def processes():
    """How many processes train together under `torch.distributed`."""
    return backend.processes()[1]


def shard(*arrays, batch_size):
    """This process's rows, such that equal steps see equal global batches.

    Of each global batch of `batch_size` rows, rank r gets the r-th part. Pass the
    result to `fit(..., batch_size=batch_size // processes())`. With `shuffle=False`
    the weights are then those of one process with the whole data. A last batch with
    fewer rows than processes is left out, so that all processes take equally many steps.

    Args:
        *arrays: Arrays (or nested structures of them) with the same first axis.
        batch_size: Rows of a global batch. A multiple of `processes()`.

    Returns:
        The array, or a tuple of as many as were given.

    Raises:
        ValueError: `batch_size` is no multiple of the number of processes.

    Example:

    >>> x, y = keras_dtkd.distribution.shard(x, y, batch_size=256)
    >>> distiller.fit(x, y, batch_size=256 // keras_dtkd.distribution.processes())
    """
    mine, world = backend.processes()
    if batch_size < world or batch_size % world:
        raise ValueError(
            "`shard`: `batch_size` must be a multiple of the number of processes, "
            f"{world}. Received: batch_size={batch_size}."
        )
    length = len(keras.tree.flatten(arrays)[0])
    parts = []
    for start in range(0, length, batch_size):
        batch = np.arange(start, min(start + batch_size, length))
        if len(batch) >= world:
            parts.append(np.array_split(batch, world)[mine])
    rows = np.concatenate(parts) if parts else np.zeros(0, int)
    chosen = keras.tree.map_structure(lambda a: np.asarray(a)[rows], arrays)
    return chosen[0] if len(arrays) == 1 else tuple(chosen)
