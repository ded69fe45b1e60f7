"""A first look at whatever `fit` may be given, without losing any of it."""

import itertools
from typing import Any, NamedTuple

import keras
import numpy as np

# So many samples of arrays show a teacher's accuracy, at the cost of a step or two.
SAMPLES = 64


class Sample(NamedTuple):
    """Some samples of the data.

    Attributes:
        x: Inputs, NumPy, nested as the data has them.
        y: Labels, or `None`.
        batch: How many of them a model is given at once.
    """

    x: Any
    y: Any
    batch: int


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
        no_lists(x, y)
        same_length(x, y)
        length = rows_of(x)
        batch = min(batch_size or 32, length, SAMPLES)
        # Whole batches: each new shape would be compiled again.
        count = min(length, SAMPLES) // batch * batch
        rows = np.linspace(0, length - 1, count).astype(int)
        return Sample(take(x, rows), None if y is None else take(y, rows), batch), x
    if isinstance(x, keras.utils.PyDataset):
        batch = x[0]
    elif hasattr(x, "__next__"):
        batch = next(x)
        x = _chained(batch, x)
    else:
        batch = next(iter(x))
    batch_x, batch_y, _ = keras.utils.unpack_x_y_sample_weight(batch)
    batch_y = None if batch_y is None else keras.tree.map_structure(to_numpy, batch_y)
    batch_x = keras.tree.map_structure(to_numpy, batch_x)
    return Sample(batch_x, batch_y, rows_of(batch_x)), x


def peek_labels(validation_data):
    """The labels of validation data, or `None`: of arrays all, else of a first batch.

    An iterator is not looked at: its first batch could not be put back.
    """
    if isinstance(validation_data, list | tuple):
        x, y, weights = keras.utils.unpack_x_y_sample_weight(validation_data)
        no_lists(x, y, "validation ")
        if is_arrays(x):
            same_length(x, y, "validation ")
            same_length(x, weights, "validation ", "weight")
        y = y if is_arrays(x) else None
        return None if y is None else keras.tree.map_structure(to_numpy, y)
    if hasattr(validation_data, "__next__"):
        return None
    return peek(validation_data)[0].y


def same_length(x, y, whose="", what="label"):
    """Refuses arrays in which a sample lacks its label, or its weight.

    Args:
        x: Inputs, arrays.
        y: Labels or weights, arrays; `None` for none.
        whose: For messages: `"validation "`.
        what: What `y` is, in the singular.

    Raises:
        ValueError: Inputs and labels differ in length.
    """
    if y is None or rows_of(y) == rows_of(x):
        return
    lists = any(isinstance(part, list | tuple) for part in (x, y))
    raise ValueError(
        f"`Distiller`: {rows_of(x)} {whose}inputs and {rows_of(y)} {whose}{what}s. "
        f"Give each sample its {what}."
        + (
            " A list stands for several inputs or outputs: if its parts are "
            "samples, make one array of it with `np.stack`."
            if lists
            else ""
        )
    )


def no_lists(x, y, whose=""):
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
        if any(np.ndim(leaf) == 0 for leaf in leaves if _is_value(leaf)):
            raise ValueError(
                f"`Distiller`: the {whose}{what} are a list of single values, in which "
                "Keras would look for several arrays. Give one array: "
                f"`np.asarray({'x' if what == 'inputs' else 'y'})`."
            )


def _is_value(leaf):
    return hasattr(leaf, "shape") or np.isscalar(leaf)


def nan_in(x):
    """Which inputs hold NaN, in words; empty where none does.

    Args:
        x: Inputs, NumPy, nested as the data has them.
    """
    found = []
    for path, leaf in keras.tree.flatten_with_path(x):
        if leaf.dtype.kind == "f" and leaf.ndim:
            broken = np.isnan(leaf).reshape(len(leaf), -1).any(-1).sum()
            name = f"input {'/'.join(map(str, path))!r}" if path else "its inputs"
            if broken:
                found.append(f"{name} ({broken} of {len(leaf)} samples looked at)")
    return " and ".join(found)


def broken(values):
    """Whether outputs are no logits: a class may be excluded by `-inf`, but not all.

    Args:
        values: NumPy, `(batch, ..., classes)`.
    """
    above = np.isnan(values) | (values == np.inf)
    return bool(above.any() or (values == -np.inf).all(-1).any())


def forms(x):
    """What shape a sample has, in words: of each input where there are several."""
    shapes = [
        f"{'/'.join(map(str, path))!r}: {leaf.shape[1:]}" if path else leaf.shape[1:]
        for path, leaf in keras.tree.flatten_with_path(x)
    ]
    return f"samples of shape {', '.join(map(str, shapes))}"


def rows_of(arrays):
    """The length of the first axis."""
    leaf = keras.tree.flatten(arrays)[0]
    return leaf.shape[0] if getattr(leaf, "shape", ()) else len(leaf)


def kind_of(x, y):
    """What must be the same for a batch to need no second look."""
    kinds = [
        (tuple(leaf.shape[1:]), str(leaf.dtype)) if hasattr(leaf, "dtype") else None
        for leaf in keras.tree.flatten((x, y))
    ]
    return kinds, y is None


def no_labels(x):
    """Labels that say nothing: Keras drops the weights of samples that have none."""
    return np.zeros((rows_of(x), 0), "float32")


def labels_or_none(y):
    """The labels, or `None` where they say nothing."""
    return None if getattr(y, "shape", (1,))[-1:] == (0,) else y


def _chained(batch, rest):
    # A generator and no `itertools.chain`: Keras knows generators.
    yield from itertools.chain([batch], rest)


def is_arrays(x):
    """Whether this is an array or a nested structure of arrays."""
    return all(_is_value(leaf) for leaf in keras.tree.flatten(x))


def take(arrays, rows):
    """Rows of nested arrays, as NumPy."""

    def one(array):
        try:
            # A table counts its rows by position there.
            return to_numpy(getattr(array, "iloc", array)[rows])
        except Exception:  # noqa: BLE001 - whatever a container makes of an index
            return to_numpy(array)[rows]

    return keras.tree.map_structure(one, arrays)


def to_numpy(value):
    """An array of any library as NumPy."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    if hasattr(value, "toarray"):
        value = value.toarray()
    return np.asarray(value)
