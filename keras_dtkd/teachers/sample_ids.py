"""Inputs that carry which samples of the data they are."""

import numpy as np

from keras_dtkd.core import arrays
from keras_dtkd.core.columns import is_bundle, to_bundle
from keras_dtkd.core.issue import ERROR, Issue

CODE = "sample_ids"


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
    count = arrays.num_samples(x)
    ids = np.arange(count) if sample_ids is None else arrays.to_numpy(sample_ids)
    if ids.shape != (count,) or ids.dtype.kind not in "iu":
        raise ValueError(
            f"`with_sample_ids`: {count} samples need as many integers as "
            f"`sample_ids`. Received: shape {ids.shape}, {ids.dtype}."
        )
    return {**to_bundle(x), "sample_ids": ids.astype("int32")}


def has_sample_ids(x):
    """Whether these are inputs with the ids of their samples."""
    return is_bundle(x) and "sample_ids" in x


def split_sample_ids(x):
    """`(x, sample_ids)`; the latter is `None` where the data brings none."""
    return (x["inputs"], x.get("sample_ids")) if is_bundle(x) else (x, None)


def model_inputs(x):
    """The inputs alone, as a model takes them."""
    return split_sample_ids(x)[0]


def check_sample_ids(teacher, context):
    """Sample ids that are missing, or that a teacher does not know."""
    count = teacher.num_samples
    stored = f"`Distiller`: the teacher's outputs are stored, for {count} samples"
    required = getattr(context.x, arrays.REQUIRED_IDS_ATTRIBUTE, None)
    if None not in (required, count) and required > count:
        needed = f"{required}: images × `augmentations_per_image`"
        hint = (
            "Let `augmentations_per_image` be as many as were stored, or store them "
            "all: `keras_dtkd.teachers.store`."
        )
        yield Issue(CODE, ERROR, f"{stored}, and the data needs {needed}.", hint)
    is_arrays = arrays.is_arrays(context.x)
    x = context.x if is_arrays else context.sample.x
    if has_sample_ids(x):
        ids = arrays.to_numpy(x["sample_ids"])
        is_indices = ids.ndim == 1 and ids.dtype.kind in "iu" and ids.size > 0
        limit = np.inf if count is None else count
        if not is_indices or ids.min() < 0 or ids.max() >= limit:
            ends = f", from {ids.min()} to {ids.max()}" if ids.size else ""
            form = f"of shape {ids.shape}, {ids.dtype}{ends}"
            yield Issue(CODE, ERROR, f"{stored}. The data has `sample_ids` {form}.")
    elif is_arrays:
        message = f"{stored}, and {arrays.num_samples(x)} inputs have no `sample_ids`."
        hint = (
            "Give `keras_dtkd.teachers.with_sample_ids(x, sample_ids)` in place of `x`."
        )
        yield Issue(CODE, ERROR, message, hint)
    else:
        yield _MISSING_IDS
    validation = context.validation if context.evaluate_distillation else None
    if validation is not None and not has_sample_ids(validation.x):
        yield _MISSING_IDS


_MISSING_IDS = Issue(
    CODE,
    ERROR,
    "`Distiller`: the teacher's outputs are stored, and the batches have no "
    "`sample_ids`.",
    'Let each batch be `({"inputs": x, "sample_ids": ids}, y)`, where `ids` are '
    "the places of its samples in the data that was stored.",
)
