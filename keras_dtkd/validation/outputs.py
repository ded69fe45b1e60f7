"""Whether the outputs of two models fit together."""

import numpy as np

from keras_dtkd.core import arrays
from keras_dtkd.core.compiled_loss import REGRESSION_LOSSES, canonical_loss_name
from keras_dtkd.core.issue import ERROR, WARNING, Issue
from keras_dtkd.core.logits import (
    MIN_PROB_FP16,
    OutputKind,
    look_like_probabilities,
)
from keras_dtkd.validation.labels import REGRESSION_HINT


def check_outputs(key, student, teacher):
    """Outputs that cannot be compared: the `OutputSpec`s of one, by its key."""
    specs = [spec for spec in (student, teacher) if spec is not None]
    if not all(spec.is_compared for spec in specs):
        return []
    issues = _check_output_key(key, specs)
    if len(specs) == 2:
        issues += _check_shapes(student, teacher) or _check_kinds(student, teacher)
    return issues


def _check_output_key(key, specs):
    """An `output=` that names nothing, where each model has one output."""
    if key in (None, 0, -1) or not specs or any(s.is_multi_output for s in specs):
        return []
    known = dict.fromkeys(name for spec in specs for name in spec.names or ())
    if key in known:
        return []
    or_name = f", or name it: {', '.join(map(repr, known))}" if known else ""
    message = f"`Distiller`: there is no output {key!r}."
    hint = f"Each model has one; leave `output=` out{or_name}."
    return [Issue("unknown_output", ERROR, message, hint)]


def _check_shapes(student, teacher):
    if student.shape[-1] != teacher.shape[-1]:
        message = (
            f"`Distiller`: the teacher gives {teacher.shape[-1]} classes and the "
            f"student {student.shape[-1]} (last axes of their outputs)."
        )
        hint = "Give both the same classes, or choose an output with `output=`."
        return [Issue("different_classes", ERROR, message, hint)]
    if student.shape[1:] != teacher.shape[1:]:
        message = (
            "`Distiller`: teacher and student give outputs of different shapes, "
            f"{teacher.shape} and {student.shape}."
        )
        hint = "Distillation compares them position by position."
        return [Issue("different_shapes", ERROR, message, hint)]
    return []


def _check_kinds(student, teacher):
    kinds = student.output_kind, teacher.output_kind
    if OutputKind.REGRESSION in kinds and kinds[0] != kinds[1]:
        message = (
            "`Distiller`: the student was compiled for a regression, and the teacher "
            f"ends in {kinds[1]}."
        )
        hint = "Give both the same kind of output, or compile with a cross-entropy."
        return [Issue("different_output_kinds", ERROR, message, hint)]
    if kinds[0].is_multilabel == kinds[1].is_multilabel:
        return []
    message = (
        f"`Distiller`: the student ends in {kinds[0]} and the teacher in {kinds[1]}: "
        "one chooses a class, the other each label by itself."
    )
    hint = "Give both the same kind of output."
    return [Issue("different_output_kinds", ERROR, message, hint)]


def check_regression_teacher(teacher_loss, spec, labels, losses):
    """A teacher of numbers, whose student has no loss and would learn classes.

    `labels` are those of the student's output `spec`, NumPy, or `None`.
    """
    name = canonical_loss_name(teacher_loss)
    linear = OutputKind.LOGITS, OutputKind.BINARY_LOGITS
    if name not in REGRESSION_LOSSES or spec.output_kind not in linear:
        return []
    if labels is None:
        are_classes = not any(loss.compares_classes for loss in losses.values())
    else:
        are_choices = labels.dtype.kind != "f" or bool(np.isin(labels, (0, 1)).all())
        has_shape = labels.shape[1:] == spec.shape[1:]
        are_classes = are_choices or (has_shape and look_like_probabilities(labels))
    if are_classes:
        return []
    message = (
        f"`Distiller`: the teacher was compiled for a regression ({name!r}), and the "
        "student has no loss: it would be trained as a classifier."
    )
    hint = (
        f"{REGRESSION_HINT} If these are logits all the same, give the Distiller "
        "`from_logits=True`."
    )
    return [Issue("regression_teacher", ERROR, message, hint)]


def check_finite_outputs(teacher_outputs, nan_inputs, student_outputs):
    """NaN, or no choice in a row. A class may be excluded by `-inf`.

    `nan_inputs` names the inputs that hold NaN, if any does. The outputs are NumPy; the
    student's may be `None` where no input holds NaN.
    """
    if arrays.has_invalid_logits(teacher_outputs):
        message = "`Distiller`: the teacher's first outputs hold NaN or infinity."
        code = "nan_inputs" if nan_inputs else "teacher_not_finite"
        hint = (
            f"The data holds NaN in {nan_inputs}: replace them, or leave those samples "
            "out."
            if nan_inputs
            else "Check its inputs (token ids beyond its vocabulary?) and its "
            "precision (float16 overflows at 65504)."
        )
        return [Issue(code, ERROR, message, hint)]
    if not nan_inputs:
        return []
    message = f"`Distiller`: the data holds NaN in {nan_inputs}"
    if np.isnan(student_outputs).any():
        message += ", and the student's first outputs do too."
        hint = "Replace them, or leave those samples out."
        return [Issue("nan_inputs", ERROR, message, hint)]
    hint = (
        "Both models give finite outputs all the same; if they are not made for that, "
        "replace the NaN."
    )
    return [Issue("nan_inputs", WARNING, f"{message}.", hint)]


def check_float16_probabilities(teacher_outputs, spec):
    """A softmax or sigmoid in float16, which is too coarse for soft targets.

    `teacher_outputs` are NumPy, cast to float32, and `spec` is theirs.
    """
    if spec.output_kind not in (OutputKind.SOFTMAX, OutputKind.SIGMOID):
        return []
    is_half = np.array_equal(teacher_outputs, teacher_outputs.astype("float16"))
    share = np.mean(teacher_outputs < MIN_PROB_FP16)
    # One-hot outputs have nothing to lose.
    if not is_half or share < 0.01 or np.isin(teacher_outputs, (0, 1)).all():
        return []
    message = (
        f"`Distiller`: {share:.0%} of the teacher's probabilities are below 6e-5, "
        "where float16 keeps little of them: soft targets are lost."
    )
    hint = 'Give its last layer, or activation, `dtype="float32"`.'
    return [Issue("float16_probabilities", WARNING, message, hint)]
