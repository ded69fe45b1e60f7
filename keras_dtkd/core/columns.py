"""Batches that carry more than the models take: columns, and ids of samples."""

import keras
import numpy as np

from keras_dtkd.core import arrays

_KEYS = {"inputs", "sample_ids", "columns"}


def with_columns(x, **columns):
    """Inputs, and columns of the data that losses read and models do not get.

    Args:
        x: Arrays, nested as the student takes them; with sample ids or without.
        **columns: By name, an array of numbers each, with one row a sample; or a dict
            of them, as a teacher of another tokenizer takes.

    Returns:
        `{"inputs": x, "columns": columns}`. A data set of your own gives batches of
        this form in place of `x`. The models get `x` alone.

    Raises:
        ValueError: No columns, or one that has not one row a sample.

    Example:

    >>> x = with_columns(tokens, privacy=scores)
    >>> Distiller(teacher, student, Swing(privacy="privacy")).fit(x, labels)
    """
    count = arrays.num_samples(x)
    columns = {name: _to_numpy(column) for name, column in columns.items()}
    if not columns:
        raise ValueError("`with_columns`: no columns. Give each by its name.")
    named = [(name, keras.tree.flatten(column)) for name, column in columns.items()]
    for name, column in ((name, leaf) for name, leaves in named for leaf in leaves):
        if column.shape[:1] != (count,) or column.dtype.kind not in "biuf":
            raise ValueError(
                f"`with_columns`: the column {name!r} must hold numbers, one row for "
                f"each of {count} samples. Received: shape {column.shape}, "
                f"{column.dtype}."
            )
    bundle = to_bundle(x)
    return {**bundle, "columns": {**get_columns(x), **columns}}


def _to_numpy(column):
    if isinstance(column, dict):
        return {name: _to_numpy(part) for name, part in column.items()}
    return np.asarray(arrays.to_numpy(column))


def is_bundle(x):
    """Whether these are inputs with columns, with sample ids, or with both."""
    is_dict = isinstance(x, dict) and "inputs" in x and 1 < len(x)
    return is_dict and set(x) <= _KEYS


def to_bundle(x):
    """A dict whose `"inputs"` are what the models take."""
    return x if is_bundle(x) else {"inputs": x}


def get_columns(x):
    """The columns of a batch, by name."""
    return x.get("columns", {}) if is_bundle(x) else {}
