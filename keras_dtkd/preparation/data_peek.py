"""A first look at whatever `fit` may be given, without losing any of it."""

import itertools
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_dtkd.core.arrays import (
    PEEK_SIZE,
    is_array_or_scalar,
    is_arrays,
    num_samples,
    take_rows,
    to_numpy,
)


class Sample(NamedTuple):
    """Some samples of the data.

    Attributes:
        x: Inputs, NumPy, nested as the data has them.
        y: Labels, or `None`.
        batch_size: How many of them a model is given at once.
    """

    x: Any
    y: Any
    batch_size: int


def peek(x, y=None, batch_size=None):
    """Some samples, and the data to go on with.

    Args:
        x: As `fit` takes it: arrays, or anything that gives batches.
        y: Labels of arrays.
        batch_size: As `fit` takes it.

    Returns:
        `(Sample, x)`. Of arrays, samples spread over all of them. Of other data its
        first batch; that of an iterator is put back before the rest.
    """
    if is_arrays(x):
        reject_lists_of_scalars(x, y)
        validate_same_length(x, y)
        length = num_samples(x)
        batch = min(batch_size or 32, length, PEEK_SIZE)
        # Whole batches: each new shape would be compiled again.
        count = min(length, PEEK_SIZE) // batch * batch
        rows = np.linspace(0, length - 1, count).astype(int)
        return Sample(
            take_rows(x, rows), None if y is None else take_rows(y, rows), batch
        ), x
    if isinstance(x, keras.utils.PyDataset):
        batch = x[0]
    elif hasattr(x, "__next__"):
        batch = next(x)
        x = _prepend(batch, x)
    else:
        batch = next(iter(x))
    batch_x, batch_y, _ = keras.utils.unpack_x_y_sample_weight(batch)
    batch_y = None if batch_y is None else keras.tree.map_structure(to_numpy, batch_y)
    batch_x = keras.tree.map_structure(to_numpy, batch_x)
    return Sample(batch_x, batch_y, num_samples(batch_x)), x


def peek_inputs(validation_data):
    """Some inputs of validation data; `None` for an iterator, which is left alone."""
    if isinstance(validation_data, list | tuple):
        return validation_data[0]
    if hasattr(validation_data, "__next__"):
        return None
    return peek(validation_data)[0].x


def peek_labels(validation_data):
    """The labels of validation data, or `None`: of arrays all, else of a first batch.

    An iterator is not looked at: its first batch could not be put back.
    """
    if isinstance(validation_data, list | tuple):
        x, y, weights = keras.utils.unpack_x_y_sample_weight(validation_data)
        reject_lists_of_scalars(x, y, "validation ")
        if is_arrays(x):
            validate_same_length(x, y, "validation ")
            validate_same_length(x, weights, "validation ", "weight")
        y = y if is_arrays(x) else None
        return None if y is None else keras.tree.map_structure(to_numpy, y)
    if hasattr(validation_data, "__next__"):
        return None
    return peek(validation_data)[0].y


def validate_same_length(x, y, whose="", what="label"):
    """Refuses arrays in which a sample lacks its label, or its weight.

    Args:
        x: Inputs, arrays.
        y: Labels or weights, arrays; `None` for none.
        whose: For messages: `"validation "`.
        what: What `y` is, in the singular.

    Raises:
        ValueError: Inputs and labels differ in length.
    """
    if y is None or num_samples(y) == num_samples(x):
        return
    lists = any(isinstance(part, list | tuple) for part in (x, y))
    raise ValueError(
        f"`Distiller`: {num_samples(x)} {whose}inputs and {num_samples(y)} "
        f"{whose}{what}s. Give each sample its {what}."
        + (
            " A list stands for several inputs or outputs: if its parts are "
            "samples, make one array of it with `np.stack`."
            if lists
            else ""
        )
    )


def reject_lists_of_scalars(x, y, whose=""):
    """Refuses lists of numbers: in a list, Keras looks for several inputs or outputs.

    Args:
        x: Inputs.
        y: Labels, or `None`.
        whose: For messages: `"validation "`.

    Raises:
        ValueError: `x` or `y` is a list of numbers, or of words.
    """
    for what, given in (("inputs", x), ("labels", y)):
        leaves = [] if given is None else keras.tree.flatten(given)
        if any(np.ndim(leaf) == 0 for leaf in leaves if is_array_or_scalar(leaf)):
            raise ValueError(
                f"`Distiller`: the {whose}{what} are a list of single values, in which "
                "Keras would look for several arrays. Give one array: "
                f"`np.asarray({'x' if what == 'inputs' else 'y'})`."
            )


def _prepend(batch, rest):
    # A generator and no `itertools.chain`: Keras knows generators.
    yield from itertools.chain([batch], rest)
