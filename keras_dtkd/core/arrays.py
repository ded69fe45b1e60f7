"""Arrays of any library: how many samples, of which shapes, and as NumPy."""

from typing import Any

import keras
import numpy as np

# So many samples of arrays show a teacher's accuracy, at the cost of a step or two.
PEEK_SIZE = 64
# Attribute of a `keras_dtkd.datasets` data set: the sample ids in all its epochs.
REQUIRED_IDS_ATTRIBUTE = "keras_dtkd_required_sample_ids"


def is_array_or_scalar(leaf):
    """Whether this is an array or a number, and no container.

    `None` stands for an optional input that is left out.
    """
    return leaf is None or hasattr(leaf, "shape") or np.isscalar(leaf)


def flatten_deep(values):
    """Values nested two deep or more as one dict, by their paths: `"a/b"`.

    Anything else as it is.
    """
    containers = dict | list | tuple
    if not isinstance(values, containers):
        return values
    inner = values.values() if isinstance(values, dict) else values
    if not any(isinstance(value, containers) for value in inner):
        return values
    leaves = keras.tree.flatten_with_path(values)
    return {"/".join(map(str, path)): leaf for path, leaf in leaves}


def find_nan_sample(x):
    """The index of a sample of arrays in memory that holds NaN, or `None`."""
    for leaf in keras.tree.flatten(x):
        # A file that is mapped to memory would be read as a whole.
        if not isinstance(leaf, np.ndarray) or isinstance(leaf, np.memmap):
            continue
        if leaf.dtype.kind != "f" or not leaf.size:
            continue
        # Quicker than a look at each number; infinities may give NaN too.
        with np.errstate(all="ignore"):
            may_hold_nan = np.isnan(leaf.sum())
        if may_hold_nan and (holds_nan := _samples_with_nan(leaf)).any():
            return int(holds_nan.argmax())
    return None


def _samples_with_nan(array):
    return np.isnan(array).reshape(len(array), -1).any(-1)


def describe_nan_inputs(x):
    """A list of the inputs (NumPy) that hold NaN, in words, or an empty string."""
    broken_inputs = []
    for path, leaf in keras.tree.flatten_with_path(x):
        if leaf is None:
            continue
        is_float = leaf.dtype.kind == "f" and leaf.ndim
        broken = _samples_with_nan(leaf).sum() if is_float else 0
        if broken:
            name = f"input {'/'.join(map(str, path))!r}" if path else "its inputs"
            broken_inputs.append(f"{name} ({broken} of {len(leaf)} samples checked)")
    return " and ".join(broken_inputs)


def has_invalid_logits(values):
    """Whether NumPy outputs are no logits: `-inf` may exclude a class, but not all."""
    above = np.isnan(values) | (values == np.inf)
    return bool(above.any() or (values == -np.inf).all(-1).any())


def describe_shapes(x):
    """The shape of a sample, in words: of each input where there are several.

    With the dtype of those that are no floats.
    """
    shapes = []
    for path, leaf in keras.tree.flatten_with_path(x):
        if leaf is not None:
            name = f"{'/'.join(map(str, path))!r}: " if path else ""
            dtype = keras.backend.standardize_dtype(leaf.dtype)
            kind = "" if keras.backend.is_float_dtype(dtype) else f", {dtype}"
            shapes.append(f"{name}{tuple(leaf.shape[1:])}{kind}")
    return f"samples of shape {', '.join(shapes)}"


def num_samples(arrays):
    """The length of the first axis."""
    leaves = (leaf for leaf in keras.tree.flatten(arrays) if leaf is not None)
    leaf: Any = next(leaves, ())
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
    leaves = keras.tree.flatten(x)
    is_nothing = all(leaf is None for leaf in leaves)
    return not is_nothing and all(map(is_array_or_scalar, leaves))


def take_rows(arrays, rows):
    """Rows of nested arrays, as NumPy; `None` stays."""

    def take(array):
        if array is None:
            return None
        if is_sparse_tensor(array):
            return _sparse_rows(array, rows)
        try:
            # A table counts its rows by position there.
            return to_numpy(getattr(array, "iloc", array)[rows])
        except Exception:  # noqa: BLE001 - whatever a container makes of an index
            return to_numpy(array)[rows]

    return keras.tree.map_structure(take, arrays)


def to_tensors(arrays):
    """Nested arrays as tensors; `None` stays."""
    return keras.tree.map_structure(
        lambda a: None if a is None else keras.ops.convert_to_tensor(a), arrays
    )


def to_numpy_arrays(arrays):
    """Nested arrays of any library as NumPy; `None` stays."""
    return keras.tree.map_structure(to_numpy, arrays)


def is_sparse_tensor(value):
    """Whether this is a `tf.SparseTensor`."""
    return all(hasattr(value, name) for name in ("indices", "values", "dense_shape"))


def _sparse_rows(value, rows):
    """Rows of a `tf.SparseTensor`, dense; no more than those."""
    shape = tuple(value.dense_shape)
    chosen = np.arange(shape[0])[rows]
    indices, values = np.asarray(value.indices), np.asarray(value.values)
    dense = np.zeros((len(chosen), *shape[1:]), values.dtype)
    for row, index in enumerate(chosen):
        is_there = indices[:, 0] == index
        dense[(row, *indices[is_there, 1:].T)] = values[is_there]
    return dense


def to_numpy(value):
    """An array of any library as NumPy; `None` stays."""
    if value is None:
        return None
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    if is_sparse_tensor(value):
        return _sparse_rows(value, slice(None))
    if hasattr(value, "todense") and not hasattr(value, "toarray"):
        # `jax.experimental.sparse.BCOO`.
        value = value.todense()
    if hasattr(value, "toarray"):
        value = value.toarray()
    return np.asarray(value)


def is_text(x):
    """Whether all of some data is strings."""
    leaves = keras.tree.flatten(x) if isinstance(x, dict | list | tuple) else [x]
    return bool(leaves) and all(map(_is_text_leaf, leaves))


def _is_text_leaf(leaf):
    dtype = getattr(leaf, "dtype", None)
    if dtype is None:
        return isinstance(leaf, str)
    kind = getattr(dtype, "kind", "")
    if kind == "O":
        return leaf.size > 0 and isinstance(leaf.flat[0], str | bytes)
    return kind in ("U", "S", "T") or "string" in str(dtype)
