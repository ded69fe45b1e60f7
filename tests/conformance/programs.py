"""A loss's mean over a batch and its gradient, for many batches of one shape.

Compiled for that shape alone. Of other shapes all losses share what they compile: their
single operations.
"""

import functools

import keras
import numpy as np
from keras import ops

from keras_dtkd import Step
from keras_dtkd.core.masking import attach_mask
from keras_dtkd.losses import KD
from tests.gradients import differentiate
from tests.logit_cases import draw
from tests.registry import LOSSES, TEMPERATURES, Loss
from tests.selection import RUNS_EVERYTHING

CASE = draw((8, 100))
LABELS = np.random.default_rng(0).integers(0, 100, 8)


def _at(temperature):
    """`KD` at a temperature."""
    return Loss(
        lambda **kwargs: KD(temperature.build(), **kwargs),
        shift_invariant=temperature.shift_invariant,
        # Of τ² and a small divergence, the error of the latter is what is left.
        equal_models=2e-4,
        stops_gradient=temperature.stops_gradient,
    )


# The losses, and `KD` at every temperature: on one backend. The temperatures themselves
# are compared on all, see `test_temperatures`, and train in `test_training`, label by
# label.
AT = {f"kd_at_{n}": _at(entry) for n, entry in TEMPERATURES.items()}
ALL_LOSSES = LOSSES | AT
SWEPT_LOSSES = ALL_LOSSES if RUNS_EVERYTHING else LOSSES


def compute_mean(loss, student, teacher, labels=None, sample_weight=None):
    """The mean over a batch, as a training step takes it.

    Args:
        loss: A loss.
        student: Its logits; for a loss on input gradients, these.
        teacher: Likewise.
        labels: Integers. Optional.
        sample_weight: Optional.

    Returns:
        A scalar.
    """
    sides = {"student_logits": student, "teacher_logits": teacher}
    if loss.input_gradient:
        sides |= {"student_input_gradient": student, "teacher_input_gradient": teacher}
    step = Step(**sides, y=labels, sample_weight=sample_weight)
    values = loss.compute_with_temperatures(step).values
    assert tuple(values.shape) == tuple(student.shape[:-1])
    assert keras.backend.standardize_dtype(values.dtype) == "float32"
    return loss.reduce(values, student, sample_weight)


@functools.lru_cache(maxsize=8)
def _program(name, num_classes, is_masked, compiled):
    loss = ALL_LOSSES[name].build()
    if name.startswith("kd_at_"):
        # Weights made in the first call cannot be made while tracing.
        loss(*2 * [ops.zeros((8, num_classes))])

    def mean(student, teacher, labels, weights_or_mask):
        # What it assigns while it is traced would outlive the trace.
        with keras.StatelessScope():
            if is_masked:
                student = attach_mask(student, weights_or_mask)
                return compute_mean(loss, student, teacher, labels)
            return compute_mean(loss, student, teacher, labels, weights_or_mask)

    return differentiate(mean, compiled)


def results(
    name, case=CASE, labels=LABELS, weights=None, mask=None, compiled=None, dtype=None
):
    """The mean of a loss, and its gradient with respect to the student's side.

    Args:
        name: One of `ALL_LOSSES`.
        case: A `Case`, whatever its dtype.
        labels: Integers, one a row.
        weights: Of the samples. 1 each if `None`.
        mask: Booleans, one a row, instead of weights.
        compiled: See `differentiate`. `None` for float32 logits of `CASE`'s shape.
        dtype: Of the logits.
    """
    sides = [ops.convert_to_tensor(z, dtype or "float32") for z in case[:2]]
    if mask is None:
        weights = np.ones(len(case.student)) if weights is None else weights
        last = ops.convert_to_tensor(weights, "float32")
    else:
        last = ops.convert_to_tensor(mask, "bool")
    if compiled is None:
        compiled = case.student.shape == CASE.student.shape and dtype is None
    num_classes = case.student.shape[-1]
    program = _program(name, num_classes, mask is not None, compiled)
    return program(*sides, ops.convert_to_tensor(labels, "int32"), last)
