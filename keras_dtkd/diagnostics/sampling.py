"""Batches of any data that `fit` takes, as NumPy, for models that are not trained."""

import itertools
from typing import Any

import keras
import numpy as np

from keras_dtkd.core import arrays
from keras_dtkd.core.arguments import check_positive_int
from keras_dtkd.core.issue import report_issues
from keras_dtkd.preparation import data_peek
from keras_dtkd.validation.data import check_arrays, check_weight_lengths

# Four batches of this size give an accuracy of one half to within 3%.
BATCH_SIZE = 64


def sample_batches(data, num_batches, teacher=None):
    """A `data_peek.Sample` of each of the first batches, in a list.

    Of arrays, samples spread over all of them, with the ids that the teacher may need.
    """
    num_batches = check_positive_int("diagnose", "batches", num_batches)
    samples = [s for s, _ in iter_samples("diagnose", data, num_batches, teacher)]
    if not samples:
        raise ValueError("`diagnose`: `data` holds no batch. Give some samples.")
    return samples


def iter_samples(caller, data, num_batches=None, teacher=None):
    """Yields pairs: a `data_peek.Sample` of a batch, and the indices of its samples.

    All batches if `num_batches` is `None`; else of arrays, samples spread over all of
    them. Indices are rows of arrays; of other data the samples are counted from 0.
    """
    if isinstance(data, tuple) and data and teacher is not None:
        data = (data_peek.add_sample_ids(teacher, data[0], False), *data[1:])
    if arrays.is_arrays(data):
        batches = _split_arrays(data, num_batches)
    else:
        batches = _number_samples(_iter_batches(caller, data, num_batches))
    for batch, indices in itertools.islice(batches, num_batches):
        yield data_peek.peek(iter([batch]))[0], indices


def _iter_batches(caller, data, num_batches):
    is_endless = num_batches is None and count_batches(data) == np.inf
    if is_endless:
        raise ValueError(
            f"`{caller}`: `data` has no end. Give the number of batches: `batches=100`."
        )
    if not isinstance(data, keras.utils.PyDataset):
        return iter(data)
    # Its own iterator, if any, does not end.
    count = num_batches if data.num_batches is None else data.num_batches
    return map(data.__getitem__, range(count))


def count_batches(data, num_batches=None):
    """How many batches `iter_samples` yields; `None` if unknown, infinity for no end.

    `num_batches` is its argument.
    """
    if arrays.is_arrays(data):
        first = data[0] if isinstance(data, tuple) else data
        total = -(-arrays.num_samples(first) // BATCH_SIZE)
    elif isinstance(data, keras.utils.PyDataset):
        total = np.inf if data.num_batches is None else data.num_batches
    elif hasattr(data, "cardinality"):
        # A `tf.data.Dataset`: -1 is infinite, -2 unknown.
        cardinality = int(data.cardinality())
        total = {-1: np.inf, -2: None}.get(cardinality, cardinality)
    else:
        try:
            total = len(data)
        except TypeError:
            total = None
    return min((n for n in (num_batches, total) if n is not None), default=None)


def _number_samples(batches):
    count = 0
    for batch in batches:
        x, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
        indices = count + np.arange(arrays.num_samples(x))
        count += len(indices)
        yield batch, indices


def _split_arrays(data, num_batches):
    x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
    report_issues(check_arrays(x, y))
    report_issues(check_weight_lengths(x, weights))
    parts: Any = [x] if y is None else [x, y]
    parts = parts if weights is None else [x, y, weights]
    for indices in _choose_rows(arrays.num_samples(x), num_batches):
        yield arrays.take_rows(tuple(parts), indices), indices


def _choose_rows(length, num_batches):
    """The rows of each batch: all in order, or some that are spread over all."""
    if num_batches is None:
        starts = range(0, length, BATCH_SIZE)
        return [np.arange(i, min(i + BATCH_SIZE, length)) for i in starts]
    count = min(length, num_batches * BATCH_SIZE)
    indices = np.linspace(0, length - 1, count).astype(int)
    # Strided, since data may be sorted by class. Batches of one size, since each new
    # shape would be compiled again.
    num_batches = -(-count // BATCH_SIZE)
    stop = count - count % num_batches
    return [indices[i:stop:num_batches] for i in range(num_batches)]
