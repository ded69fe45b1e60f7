"""Inputs that carry which samples of the data they are."""

import numpy as np

from keras_dtkd.core.arrays import num_samples

_KEYS = {"inputs", "sample_ids"}


def with_sample_ids(x, sample_ids=None):
    """Inputs beside the ids of their samples, as a stored teacher needs them.

    Args:
        x: Arrays, nested as the student takes them.
        sample_ids: Integers, one a sample: where in the stored outputs each is. Their
            own order if `None`.

    Returns:
        `{"inputs": x, "sample_ids": sample_ids}`. A data set of your own gives batches
        of this form in place of `x`. The student gets `x` alone.

    Raises:
        ValueError: Not one id a sample.

    Example:

    >>> distiller.fit(with_sample_ids(x[chosen], chosen), y[chosen])
    """
    count = num_samples(x)
    ids = np.arange(count) if sample_ids is None else np.asarray(sample_ids)
    if ids.shape != (count,) or ids.dtype.kind not in "iu":
        raise ValueError(
            f"`with_sample_ids`: {count} samples need as many integers as "
            f"`sample_ids`. Received: shape {ids.shape}, {ids.dtype}."
        )
    return {"inputs": x, "sample_ids": ids.astype("int32")}


def has_sample_ids(x):
    """Whether these are inputs with the ids of their samples."""
    return isinstance(x, dict) and set(x) == _KEYS


def split_sample_ids(x):
    """`(x, sample_ids)`; the latter is `None` where the data brings none."""
    return (x["inputs"], x["sample_ids"]) if has_sample_ids(x) else (x, None)


def model_inputs(x):
    """The inputs alone, as a model takes them."""
    return split_sample_ids(x)[0]
