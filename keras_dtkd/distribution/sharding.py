"""This process's rows, under `torchrun` and `keras.distribution.initialize` (JAX).

Where one process drives all devices, Keras splits the data itself.
"""

import keras
import numpy as np

from keras_dtkd import backend
from keras_dtkd.core.arrays import to_numpy


def rank():
    """This process's number, from 0. 0 where there is one process."""
    return backend.rank_and_world_size()[0]


def world_size():
    """How many processes train together."""
    return backend.rank_and_world_size()[1]


def shard(*arrays, batch_size):
    """This process's rows, such that equal steps see equal global batches.

    Of each global batch of `batch_size` rows, rank r gets the r-th part. Pass the
    result to `fit(..., batch_size=batch_size // world_size())`. With `shuffle=False`
    the weights are then those of one process with the whole data. All processes take
    equally many steps: of a short last batch, rows that cannot be shared out are left
    out (under torch a batch of fewer rows than processes, under JAX what exceeds a
    multiple of the devices: call it after `keras.distribution.set_distribution`).

    Args:
        *arrays: Arrays with the same first axis, nested structures of them, or `None`.
        batch_size: Rows of a global batch. A multiple of the number of processes, and
            under JAX of the devices that share a batch.

    Returns:
        The array, or a tuple of as many as were given.

    Raises:
        ValueError: `batch_size` is no such multiple; the arrays differ in length;
            JAX gives several processes the same rows.

    Example:

    >>> x, y = distribution.shard(x, y, batch_size=256)
    >>> distiller.fit(x, y, batch_size=256 // distribution.world_size())
    """
    mine, world = backend.rank_and_world_size()
    even = backend.batch_divisor() if world > 1 else None
    if even is not None and even % world:
        raise ValueError(
            f"`shard`: the distribution shares a batch among {even} devices, and there "
            f"are {world} processes: several need the same rows. Pass a "
            "`tf.data.Dataset`, which Keras shares out by itself."
        )
    multiple = even or world
    if batch_size < 1 or batch_size % multiple:
        raise ValueError(
            f"`shard`: `batch_size` must be a multiple of {multiple}, over which a "
            f"batch is split. Received: batch_size={batch_size}."
        )
    leaves = [leaf for leaf in keras.tree.flatten(arrays) if leaf is not None]
    lengths = {len(leaf) if np.ndim(leaf) else 0 for leaf in leaves}
    if len(lengths) != 1:
        raise ValueError(
            "`shard`: all arrays must have the same first axis. Received lengths: "
            f"{sorted(lengths) or 'none'}."
        )
    length, parts = lengths.pop(), [np.zeros(0, int)]
    for start in range(0, length, batch_size):
        stop = min(start + batch_size, length)
        rows = np.arange(start, stop if even is None else stop - (stop - start) % even)
        if len(rows) >= world:
            parts.append(np.array_split(rows, world)[mine])
    rows = np.concatenate(parts)
    chosen = keras.tree.map_structure(
        lambda array: None if array is None else to_numpy(array)[rows], arrays
    )
    return chosen[0] if len(arrays) == 1 else tuple(chosen)
