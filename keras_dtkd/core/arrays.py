"""Arrays of any library: how many samples, of which shapes, and as NumPy."""

import keras
import numpy as np

# Attribute of a data set: how many sample IDs its epochs require in all.
REQUIRED_IDS_ATTRIBUTE = "keras_dtkd_required_sample_ids"


def is_array_or_scalar(leaf):
    return hasattr(leaf, "shape") or np.isscalar(leaf)


def describe_nan_inputs(x):
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


def has_invalid_logits(values):
    """Whether outputs are no logits: a class may be excluded by `-inf`, but not all.

    Args:
        values: NumPy, `(batch, ..., classes)`.
    """
    above = np.isnan(values) | (values == np.inf)
    return bool(above.any() or (values == -np.inf).all(-1).any())


def describe_shapes(x):
    """What shape a sample has, in words: of each input where there are several."""
    shapes = [
        f"{'/'.join(map(str, path))!r}: {leaf.shape[1:]}" if path else leaf.shape[1:]
        for path, leaf in keras.tree.flatten_with_path(x)
    ]
    return f"samples of shape {', '.join(map(str, shapes))}"


def num_samples(arrays):
    """The length of the first axis."""
    leaf = keras.tree.flatten(arrays)[0]
    return leaf.shape[0] if getattr(leaf, "shape", ()) else len(leaf)


def batch_signature(x, y):
    """What must be the same for a batch to need no second look."""
    kinds = [
        (tuple(leaf.shape[1:]), str(leaf.dtype)) if hasattr(leaf, "dtype") else None
        for leaf in keras.tree.flatten((x, y))
    ]
    return kinds, y is None


def placeholder_labels(x):
    """Labels that say nothing: Keras drops the weights of samples that have none."""
    return np.zeros((num_samples(x), 0), "float32")


def drop_placeholder(y):
    """The labels, or `None` where they say nothing."""
    return None if getattr(y, "shape", (1,))[-1:] == (0,) else y


def is_arrays(x):
    """Whether this is an array or a nested structure of arrays."""
    return all(is_array_or_scalar(leaf) for leaf in keras.tree.flatten(x))


def take_rows(arrays, rows):
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
