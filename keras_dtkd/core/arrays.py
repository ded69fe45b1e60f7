"""Arrays of any library: how many samples, of which shapes, and as NumPy."""

from typing import Any

import keras
import numpy as np

# So many samples of arrays show a teacher's accuracy, at the cost of a step or two.
PEEK_SIZE = 64
# Attribute of a `keras_dtkd.datasets` data set: the sample ids in all its epochs.
REQUIRED_IDS_ATTRIBUTE = "keras_dtkd_required_sample_ids"


def is_array_or_scalar(leaf):
    """Whether this is an array or a number, and no container."""
    return hasattr(leaf, "shape") or np.isscalar(leaf)


def describe_nan_inputs(x):
    """A list of the inputs (NumPy) that hold NaN, in words, or an empty string."""
    broken_inputs = []
    for path, leaf in keras.tree.flatten_with_path(x):
        is_float = leaf.dtype.kind == "f" and leaf.ndim
        broken = np.isnan(leaf).reshape(len(leaf), -1).any(-1).sum() if is_float else 0
        if broken:
            name = f"input {'/'.join(map(str, path))!r}" if path else "its inputs"
            broken_inputs.append(f"{name} ({broken} of {len(leaf)} samples checked)")
    return " and ".join(broken_inputs)


def has_invalid_logits(values):
    """Whether NumPy outputs are no logits: `-inf` may exclude a class, but not all."""
    above = np.isnan(values) | (values == np.inf)
    return bool(above.any() or (values == -np.inf).all(-1).any())


def describe_shapes(x):
    """The shape of a sample, in words: of each input where there are several."""
    shapes = [
        f"{'/'.join(map(str, path))!r}: {leaf.shape[1:]}" if path else leaf.shape[1:]
        for path, leaf in keras.tree.flatten_with_path(x)
    ]
    return f"samples of shape {', '.join(map(str, shapes))}"


def num_samples(arrays):
    """The length of the first axis."""
    leaf: Any = next(iter(keras.tree.flatten(arrays)), ())
    return leaf.shape[0] if getattr(leaf, "shape", ()) else len(leaf)


def batch_signature(x, y):
    """A hashable value. Batches with the same one need no second preparation.

    The structure, ranks and dtypes of a batch, and the size of its last axis; but not
    the lengths of sequences, nor the sides of images.
    """

    def leaf_signature(leaf):
        if not hasattr(leaf, "dtype"):
            return type(leaf).__name__
        dtype, rank = str(leaf.dtype), len(leaf.shape)
        is_sequence_of_ids = rank == 2 and "int" in dtype
        return dtype, rank, 0 if rank < 2 or is_sequence_of_ids else leaf.shape[-1]

    leaves = keras.tree.flatten_with_path((x, y))
    return tuple((path, leaf_signature(leaf)) for path, leaf in leaves)


def placeholder_labels(x):
    """Empty labels: without any, Keras drops the sample weights."""
    return np.zeros((num_samples(x), 0), "float32")


def drop_placeholder(y):
    """The labels, or `None` for those of `placeholder_labels`."""
    return None if getattr(y, "shape", (1,))[-1:] == (0,) else y


def is_arrays(x):
    """Whether this is an array or a nested structure of arrays."""
    return all(is_array_or_scalar(leaf) for leaf in keras.tree.flatten(x))


def take_rows(arrays, rows):
    """Rows of nested arrays, as NumPy."""

    def take(array):
        try:
            # A table counts its rows by position there.
            return to_numpy(getattr(array, "iloc", array)[rows])
        except Exception:  # noqa: BLE001 - whatever a container makes of an index
            return to_numpy(array)[rows]

    return keras.tree.map_structure(take, arrays)


def to_numpy(value):
    """An array of any library as NumPy."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    if hasattr(value, "toarray"):
        value = value.toarray()
    return np.asarray(value)
