"""What teacher and student say of a few batches."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_dtkd import backend
from keras_dtkd.core.arrays import to_numpy
from keras_dtkd.core.masking import get_mask
from keras_dtkd.diagnostics.looking import ITSELF
from keras_dtkd.functional.labels import one_hot


class Rows(NamedTuple):
    """Logits and labels of every position that counts, one a row.

    Attributes:
        student: float32 NumPy, `(rows, classes)`.
        teacher: Likewise.
        labels: Integers `(rows,)`, -1 where there is none; or `None` without labels.
    """

    student: Any
    teacher: Any
    labels: Any


class Batch(NamedTuple):
    """One batch as the losses saw it.

    Attributes:
        x: Inputs, tensors.
        y: Labels as the data has them, or `None`.
        values: The mean of each loss, by name.
        steps: What each loss was given, by name.
    """

    x: Any
    y: Any
    values: dict
    steps: dict


def hear(made, samples):
    """Both models and all losses on each sample.

    Args:
        made: The Distiller of `looking`.
        samples: Of `keras_dtkd.preparation.data_peek.Sample`.

    Returns:
        `(batches, rows)`: a list of `Batch`, and the `Rows` of all of them.
    """
    batches = [_hear(made, sample) for sample in samples]
    found = [_rows(batch.steps[ITSELF]) for batch in batches]
    student, teacher, labels = zip(*found, strict=True)
    labelled = all(part is not None for part in labels)
    rows = Rows(
        np.concatenate(student),
        np.concatenate(teacher),
        np.concatenate(labels) if labelled else None,
    )
    return batches, rows


def _hear(made, sample):
    x, y = (
        None if part is None else keras.tree.map_structure(ops.convert_to_tensor, part)
        for part in (sample.x, sample.y)
    )
    # Nothing that any layer might assign lasts.
    with keras.StatelessScope(), backend.no_grad():
        values = made.compute_losses(x, y)
    losses = made.distillation_losses.items()
    steps = {name: witness.take_step() for name, witness in losses}
    return Batch(x, y, {name: float(value) for name, value in values.items()}, steps)


def _rows(step):
    student, teacher = step.student_logits, step.teacher_logits
    mask = get_mask(student)
    keep = slice(None) if mask is None else to_numpy(mask).reshape(-1)
    classes = student.shape[-1]
    labels = None
    if step.y is not None:
        label = to_numpy(ops.convert_to_numpy(one_hot(step.y, student)))
        label = label.reshape(-1, classes)[keep]
        labels = np.where(label.max(-1) > 0, label.argmax(-1), -1)

    def flat(values):
        return to_numpy(ops.convert_to_numpy(values)).reshape(-1, classes)[keep]

    return flat(student), flat(teacher), labels
