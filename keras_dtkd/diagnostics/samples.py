"""A few batches of whatever `fit` may be given."""

import itertools
import numbers

import keras
import numpy as np

from keras_dtkd.core import arrays
from keras_dtkd.preparation import data_peek as datasets

# Four of these tell an accuracy of one half to within 3 %.
BATCH = 64


def gather(data, batches):
    """Some batches of the data.

    Args:
        data: A tuple `(x, y)` or `(x,)` of arrays; or anything that gives batches. An
            iterator loses those that are taken.
        batches: How many. At least 1.

    Returns:
        A list of `keras_dtkd.preparation.data_peek.Sample`, NumPy. Of arrays, rows spread over all of
        them; of other data its first batches.

    Raises:
        ValueError: `batches` is no number of batches, there are none, or inputs and
            labels differ in length.
    """
    if not isinstance(batches, numbers.Integral) or batches < 1:
        raise ValueError(
            "`diagnose`: `batches` must be an integer of at least 1. Received: "
            f"batches={batches!r}."
        )
    if arrays.is_arrays(data):
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        datasets.reject_lists_of_scalars(x, y)
        samples = _of_arrays(x, y, int(batches))
    else:
        found = itertools.islice(_batches(data), int(batches))
        samples = [datasets.peek(iter([batch]))[0] for batch in found]
    if not samples:
        raise ValueError("`diagnose`: `data` holds no batch. Give some samples.")
    return samples


def _of_arrays(x, y, batches):
    length = arrays.num_samples(x)
    if not length:
        return []
    # Says what it says in `fit`, of labels that do not fit the inputs.
    datasets.peek(x, y)
    rows = np.linspace(0, length - 1, min(length, batches * BATCH)).astype(int)
    # Every so many, not one after the other: data may be sorted by class. Batches of
    # one size: each new shape would be compiled again.
    count = -(-len(rows) // BATCH)
    size = len(rows) // count
    parts = [rows[i : i + count * size : count] for i in range(count)]
    return [
        datasets.Sample(
            arrays.take_rows(x, part),
            None if y is None else arrays.take_rows(y, part),
            len(part),
        )
        for part in parts
    ]


def _batches(data):
    if isinstance(data, keras.utils.PyDataset):
        # Its own iterator, where it has one, does not end; nor does one without a
        # number of batches.
        count = data.num_batches
        return (data[i] for i in (itertools.count() if count is None else range(count)))
    return iter(data)
