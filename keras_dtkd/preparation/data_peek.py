"""A first look at whatever `fit` may be given, without losing any of it."""

import itertools
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_dtkd.core import arrays
from keras_dtkd.core.issue import report_issues
from keras_dtkd.teachers.sample_ids import has_sample_ids, with_sample_ids
from keras_dtkd.validation.data import (
    check_arrays,
    check_is_data,
    check_ragged,
    check_weight_lengths,
    no_samples,
)

# Numbers in the outputs that are looked at: a quarter of a GiB.
MAX_OUTPUTS = 2**26


class Sample(NamedTuple):
    """Some samples of the data: NumPy, nested as the data has them."""

    x: Any
    y: Any  # `None` without labels.
    batch_size: int | None = None  # How many of them a model is given at once.
    sample_weight: Any = None


def peek(x, y=None, batch_size=None, sample_weight=None):
    """Some samples of what `fit` takes, and the data to go on with: `(Sample, x)`.

    Of arrays, samples spread over all of them, and one with NaN. Of other data its
    first batch; that of an iterator is put back before the rest. Raises `ValueError`
    for arrays that do not have the form that Keras needs.
    """
    if arrays.is_arrays(x):
        report_issues(check_ragged(x))
        report_issues(check_arrays(x, y))
        report_issues(check_weight_lengths(x, sample_weight))
        length = arrays.num_samples(x)
        batch = min(batch_size or 32, length, arrays.PEEK_SIZE)
        # Whole batches: each new shape would be compiled again.
        count = min(length, arrays.PEEK_SIZE) // batch * batch
        indices = np.linspace(0, length - 1, count).astype(int)
        nan_sample = arrays.find_nan_sample(x)
        if nan_sample is not None and nan_sample not in indices:
            indices[-1] = nan_sample
        sample_x, sample_y, weights = arrays.take_rows((x, y, sample_weight), indices)
        return Sample(sample_x, sample_y, batch, weights), x
    report_issues(check_is_data(x))
    if isinstance(x, keras.utils.PyDataset):
        batch = x[0] if x.num_batches != 0 else None
    elif hasattr(x, "__next__"):
        batch = next(x, None)
        x = _prepend(batch, x)
    else:
        batch = next(iter(x), None)
    if batch is None:
        report_issues(no_samples())
    batch = keras.utils.unpack_x_y_sample_weight(batch)
    report_issues(check_ragged(batch[0]))
    batch_x, batch_y, weights = arrays.to_numpy_arrays(batch)
    if not arrays.num_samples(batch_x):
        report_issues(no_samples("first batch of the "))
    return Sample(batch_x, batch_y, arrays.num_samples(batch_x), weights), x


def limit_rows(sample, model):
    """As many of a sample's sequences as a large vocabulary leaves room for."""
    shape: Any = getattr(model, "output_shape", None)
    leaves: list = [a for a in keras.tree.flatten(sample.x) if np.ndim(a) > 1]
    is_sequence = isinstance(shape, tuple) and len(shape) == 3 and shape[-1]
    if not is_sequence or not leaves:
        return sample
    count, length = arrays.num_samples(sample.x), max(leaf.shape[1] for leaf in leaves)
    rows = max(1, MAX_OUTPUTS // (shape[-1] * length))
    if rows >= count:
        return sample
    parts = sample.x, sample.y, sample.sample_weight
    x, y, weights = arrays.take_rows(parts, slice(rows))
    return Sample(x, y, min(rows, sample.batch_size or rows), weights)


def peek_validation_data(data):
    """A `Sample`, of arrays all; `None` for no data and for an iterator.

    An iterator is left alone: its first batch could not be put back.
    """
    if data is None or hasattr(data, "__next__"):
        return None
    if not isinstance(data, list | tuple):
        return peek(data)[0]
    x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
    if not arrays.is_arrays(x):
        return Sample(x, None)
    report_issues(check_arrays(x, y, "validation "))
    report_issues(check_weight_lengths(x, weights, "validation "))
    y, weights = arrays.to_numpy_arrays((y, weights))
    return Sample(x, y, sample_weight=weights)


def add_sample_ids(teacher, x, is_batch):
    """The data with sample ids, if these are all arrays of stored outputs in order."""
    if not teacher.needs_sample_ids or has_sample_ids(x) or not arrays.is_arrays(x):
        return x
    # Which samples one batch holds is not known.
    is_all = not is_batch and teacher.num_samples in (None, arrays.num_samples(x))
    return with_sample_ids(x) if is_all else x


def _prepend(batch, rest):
    # A generator and no `itertools.chain`: Keras knows generators.
    yield from itertools.chain([batch], rest)
