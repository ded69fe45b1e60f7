"""Whether the data carries the sample ids that a stored teacher needs."""

import numpy as np

from keras_dtkd.core.arrays import (
    REQUIRED_IDS_ATTRIBUTE,
    is_arrays,
    num_samples,
    to_numpy,
)
from keras_dtkd.teachers.sample_ids import has_sample_ids, with_sample_ids

_MISSING_IDS = (
    "`Distiller`: the teacher's outputs are stored, and the batches have no "
    '`sample_ids`. Let each batch be `({"inputs": x, "sample_ids": ids}, y)`, where '
    "`ids` are the places of its samples in the data that was stored."
)


def add_sample_ids(teacher, x, is_batch=False):
    """The data with the sample ids that the teacher needs.

    Args:
        teacher: A `Teacher`.
        x: As `fit` got it.
        is_batch: Whether it is one batch, whose ids are not known.

    Returns:
        `x`, with ids if these are all arrays of the stored outputs in order.

    Raises:
        ValueError: The teacher needs ids, and they cannot be known, or it does not
            have them all.
    """
    if not teacher.needs_sample_ids:
        return x
    count = teacher.num_samples
    if has_sample_ids(x) or not is_arrays(x):
        _validate_known_ids(count, x)
        return x
    if is_batch or (count is not None and count != num_samples(x)):
        raise ValueError(
            f"`Distiller`: the teacher's outputs are stored, for {count} samples, and "
            f"{num_samples(x)} inputs have no `sample_ids`. Give "
            "`keras_dtkd.teachers.with_sample_ids(x, sample_ids)` in place of `x`."
        )
    return with_sample_ids(x)


def _validate_known_ids(count, x):
    """All ids are known, as far as the data shows them before it is gone through."""
    if has_sample_ids(x) and is_arrays(x):
        _validate_id_range(count, to_numpy(x["sample_ids"]))
    required = getattr(x, REQUIRED_IDS_ATTRIBUTE, None)
    if required is not None and count is not None and required > count:
        raise ValueError(
            f"`Distiller`: the teacher's outputs are stored, for {count} samples, and "
            f"the data needs {required}: images × `augmentations_per_image`. Let "
            "`augmentations_per_image` be as many as were stored, or store them all: "
            "`keras_dtkd.teachers.store`."
        )


def _validate_id_range(count, ids):
    is_wrong = ids.ndim != 1 or ids.dtype.kind not in "iu" or not len(ids)
    if is_wrong or ids.min() < 0 or (count is not None and ids.max() >= count):
        ends = f", from {ids.min()} to {ids.max()}" if ids.size else ""
        raise ValueError(
            f"`Distiller`: the teacher's outputs are stored, for {count} samples. The "
            f"data has `sample_ids` of shape {ids.shape}, {ids.dtype}{ends}."
        )


def validate_validation_ids(teacher, x):
    """Validation data has sample ids, if the teacher needs them.

    Args:
        teacher: A `Teacher`.
        x: Inputs of the validation data.

    Raises:
        ValueError: It has not.
    """
    if teacher.needs_sample_ids and not has_sample_ids(x):
        raise ValueError(_MISSING_IDS)


def validate_sample_ids(teacher, losses, x):
    """The batches have sample ids, if the teacher needs them, and it has these.

    Args:
        teacher: A `Teacher`.
        losses: Distillation losses by name.
        x: Inputs of some samples, as the data gave them, NumPy.

    Raises:
        ValueError: They have not, or a loss is for a view.
    """
    if not teacher.needs_sample_ids:
        return
    validate_validation_ids(teacher, x)
    _validate_id_range(teacher.num_samples, np.asarray(x["sample_ids"]))
    for name, loss in losses.items():
        if loss.view is not None:
            raise ValueError(
                f"`Distiller`: `{name}` is for the view {loss.view!r}, for which the "
                "teacher has no stored outputs. Give the teacher itself, or a loss "
                "without a view."
            )
