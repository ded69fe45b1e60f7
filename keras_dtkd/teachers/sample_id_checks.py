"""Whether the data has the sample ids that a teacher of stored outputs needs."""

import numpy as np

from keras_dtkd.core.arrays import (
    REQUIRED_IDS_ATTRIBUTE,
    is_arrays,
    num_samples,
    to_numpy,
)
from keras_dtkd.core.issue import ERROR, Issue
from keras_dtkd.teachers.sample_ids import has_sample_ids

CODE = "sample_ids"


def check_sample_ids(teacher, context):
    """Sample ids that are missing, or that a teacher does not know."""
    issues = list(_check_data(teacher.num_samples, context))
    if context.evaluate_distillation and context.validation is not None:
        if not has_sample_ids(context.validation.x):
            issues.append(_missing_ids())
    return issues


def _check_data(count, context):
    stored = f"`Distiller`: the teacher's outputs are stored, for {count} samples"
    required = getattr(context.x, REQUIRED_IDS_ATTRIBUTE, None)
    if required is not None and count is not None and required > count:
        message = (
            f"{stored}, and the data needs {required}: images × "
            "`augmentations_per_image`."
        )
        hint = (
            "Let `augmentations_per_image` be as many as were stored, or store them "
            "all: `keras_dtkd.teachers.store`."
        )
        yield Issue(CODE, ERROR, message, hint)
    x = context.x if is_arrays(context.x) else context.sample.x
    if has_sample_ids(x):
        ids = to_numpy(x["sample_ids"])
        if not _are_known(ids, count):
            ends = f", from {ids.min()} to {ids.max()}" if ids.size else ""
            message = (
                f"{stored}. The data has `sample_ids` of shape {ids.shape}, "
                f"{ids.dtype}{ends}."
            )
            yield Issue(CODE, ERROR, message)
    elif is_arrays(context.x):
        message = f"{stored}, and {num_samples(x)} inputs have no `sample_ids`."
        hint = (
            "Give `keras_dtkd.teachers.with_sample_ids(x, sample_ids)` in place of `x`."
        )
        yield Issue(CODE, ERROR, message, hint)
    else:
        yield _missing_ids()


def _are_known(ids, count):
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer) or not len(ids):
        return False
    return ids.min() >= 0 and (count is None or ids.max() < count)


def _missing_ids():
    message = (
        "`Distiller`: the teacher's outputs are stored, and the batches have no "
        "`sample_ids`."
    )
    hint = (
        'Let each batch be `({"inputs": x, "sample_ids": ids}, y)`, where `ids` are '
        "the places of its samples in the data that was stored."
    )
    return Issue(CODE, ERROR, message, hint)
