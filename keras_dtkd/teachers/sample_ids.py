"""Inputs that say which rows of the data they are."""

import numpy as np

from keras_dtkd.core.arrays import (
    REQUIRED_IDS_ATTRIBUTE,
    is_arrays,
    num_samples,
    to_numpy,
)
from keras_dtkd.preparation.data_peek import peek

_KEYS = {"inputs", "rows"}
_MISSING_IDS = (
    "`Distiller`: the teacher's outputs are stored, and the data does not say which "
    'rows its samples are. Let each batch be `({"inputs": x, "rows": rows}, y)`, where '
    "`rows` are the places of its samples in the data that the teacher was asked about."
)


def with_sample_ids(x, rows=None):
    """Inputs beside the numbers of their rows, as a stored teacher wants them.

    Args:
        x: Arrays, nested as the student takes them.
        rows: Integers, one a sample: where in the stored outputs each is. Their own
            order if `None`.

    Returns:
        `{"inputs": x, "rows": rows}`. A data set of your own gives batches of this form
        in place of `x`. The student sees `x` alone.

    Raises:
        ValueError: Not one row a sample.

    Example:

    >>> distiller.fit(with_rows(x[chosen], chosen), y[chosen])
    """
    count = num_samples(x)
    rows = np.arange(count) if rows is None else np.asarray(rows)
    if rows.shape != (count,) or rows.dtype.kind not in "iu":
        raise ValueError(
            f"`with_rows`: {count} samples need as many integers as rows. Received: "
            f"shape {rows.shape}, {rows.dtype}."
        )
    return {"inputs": x, "rows": rows.astype("int32")}


def has_sample_ids(x):
    """Whether these are inputs with the numbers of their rows."""
    return isinstance(x, dict) and set(x) == _KEYS


def split_sample_ids(x):
    """`(x, rows)`; `rows` is `None` where the data brings none."""
    return (x["inputs"], x["rows"]) if has_sample_ids(x) else (x, None)


def model_inputs(x):
    """What a model sees of it."""
    return split_sample_ids(x)[0]


def add_sample_ids(teacher, x, batch=False):
    """The data with the rows that the teacher asks for.

    Args:
        teacher: A `Teacher`.
        x: As `fit` got it.
        batch: Whether it is one batch, whose rows nobody knows.

    Returns:
        `x`, with rows if these are all arrays of the stored outputs in order.

    Raises:
        ValueError: The teacher asks for rows, and they cannot be known, or it does not
            have them all.
    """
    if not needs_sample_ids(teacher):
        return x
    count = getattr(teacher, "rows", None)
    if has_sample_ids(x) or not is_arrays(x):
        _validate_known_ids(count, x)
        return x
    if batch or (count is not None and count != num_samples(x)):
        raise ValueError(
            f"`Distiller`: the teacher's outputs are stored, for {count} rows, and "
            f"{num_samples(x)} inputs do not say which of them they are. Give "
            "`keras_dtkd.teachers.with_sample_ids(x, rows)` in place of `x`."
        )
    return with_sample_ids(x)


def _validate_known_ids(count, x):
    """All rows are, as far as the data tells of them before it is gone through."""
    if has_sample_ids(x) and is_arrays(x):
        _validate_id_range(count, to_numpy(x["rows"]))
    asked = getattr(x, REQUIRED_IDS_ATTRIBUTE, None)
    if asked is not None and count is not None and asked > count:
        raise ValueError(
            f"`Distiller`: the teacher's outputs are stored, for {count} rows, and the "
            f"data asks for {asked}: images × `augmentations_per_image`. Let that be "
            "as many as the teacher was asked about, or ask it about them all: "
            "`keras_dtkd.teachers.store`."
        )


def _validate_id_range(count, rows):
    wrong = rows.ndim != 1 or rows.dtype.kind not in "iu" or not len(rows)
    if wrong or rows.min() < 0 or (count is not None and rows.max() >= count):
        ends = f", from {rows.min()} to {rows.max()}" if rows.size else ""
        raise ValueError(
            f"`Distiller`: the teacher's outputs are stored, for {count} rows. The "
            f"data asks for rows of shape {rows.shape}, {rows.dtype}{ends}."
        )


def needs_sample_ids(teacher):
    """Whether a teacher cannot speak without the numbers of the rows."""
    return bool(getattr(teacher, "needs_sample_ids", False))


def validate_validation_ids(teacher, given):
    """Validation data brings rows, if the teacher is asked about it and wants them.

    Raises:
        ValueError: It does not. An iterator is not looked at.
    """
    if not needs_sample_ids(teacher) or hasattr(given, "__next__"):
        return
    arrays = isinstance(given, list | tuple)
    x = given[0] if arrays else peek(given)[0].x
    if not has_sample_ids(x):
        raise ValueError(_MISSING_IDS)


def validate_sample_ids(distiller, sample):
    """The batches bring rows, if the teacher asks for them, and it has these.

    Raises:
        ValueError: They do not.
    """
    teacher = distiller.held.teacher
    if not needs_sample_ids(teacher):
        return
    if not has_sample_ids(sample.x):
        raise ValueError(_MISSING_IDS)
    _validate_id_range(getattr(teacher, "rows", None), np.asarray(sample.x["rows"]))
    for name, loss in distiller.distillation_losses.items():
        if loss.view is not None:
            raise ValueError(
                f"`Distiller`: `{name}` looks at the view {loss.view!r}, of which the "
                "teacher's stored outputs know nothing. Give the teacher itself, or a "
                "loss without a view."
            )
