"""Whether the outputs of two models fit together."""

import dataclasses
import warnings

import numpy as np

from keras_dtkd.core import arrays, logits
from keras_dtkd.teachers.sample_ids import model_inputs

MULTILABEL_KINDS = (logits.SIGMOID, logits.BINARY)


def apply_multilabel_losses(losses, spec):
    """A loss may ask that logits be a choice for each label.

    Args:
        losses: Distillation losses by name.
        spec: An `OutputSpec`.

    Returns:
        The `OutputSpec`, as the losses take it.

    Raises:
        ValueError: The output is a softmax.
    """
    for name, loss in losses.items():
        if not loss.multilabel:
            continue
        if logits.SOFTMAX in (spec.output_kind, *spec.member_kinds):
            raise ValueError(
                f"`Distiller`: `{name}` compares each label by itself, but the "
                f"{spec.role} ends in a softmax, which chooses one class. Give it a "
                "linear or sigmoid output, or take another loss."
            )
        spec = _to_multilabel(spec)
    return spec


def _to_multilabel(spec):
    if spec.output_kind != logits.LOGITS:
        return spec
    return dataclasses.replace(spec, output_kind=logits.BINARY)


def validate_output_key(key, *specs):
    """`output=` names something, also where there is only one output.

    Args:
        key: The Distiller's `output`.
        *specs: `OutputSpec`s.

    Raises:
        ValueError: It does not.
    """
    if key in (None, 0, -1) or any(spec.is_multi_output for spec in specs):
        return
    known = [name for spec in specs for name in spec.names or ()]
    if key not in known:
        names = ", ".join(map(repr, dict.fromkeys(known)))
        or_name = f", or name it: {names}" if known else ""
        raise ValueError(
            f"`Distiller`: there is no output {key!r}. Each model has one; leave "
            f"`output=` out{or_name}."
        )


def validate_finite_outputs(teacher_values, sample, evaluate_student):
    """No NaN, and a choice in each row. A class may be excluded by `-inf`.

    Args:
        teacher_values: The teacher's outputs, NumPy.
        sample: The `data_peek.Sample`.
        evaluate_student: A function that returns the student's outputs, NumPy. Called
            where the data holds NaN.

    Raises:
        ValueError: Outputs are not finite.
    """
    nan_inputs = arrays.describe_nan_inputs(model_inputs(sample.x))
    if arrays.has_invalid_logits(teacher_values):
        cause = (
            f"The data holds NaN in {nan_inputs}: replace them, or leave those samples "
            "out."
            if nan_inputs
            else "Check its inputs and its precision (float16 overflows at 65504)."
        )
        raise ValueError(
            f"`Distiller`: the teacher's first outputs hold NaN or infinity. {cause}"
        )
    if not nan_inputs:
        return
    if np.isnan(evaluate_student()).any():
        raise ValueError(
            f"`Distiller`: the data holds NaN in {nan_inputs}, and the student's first "
            "outputs do too. Replace them, or leave those samples out."
        )
    warnings.warn(
        f"`Distiller`: the data holds NaN in {nan_inputs}. Both models give finite "
        "outputs all the same; if they are not made for that, replace the NaN.",
        stacklevel=5,
    )


def validate_same_shape(student, teacher):
    """Both models give the same classes at the same positions.

    Args:
        student: An `OutputSpec`.
        teacher: An `OutputSpec`.

    Raises:
        ValueError: They do not.
    """
    if student.shape[-1] != teacher.shape[-1]:
        raise ValueError(
            f"`Distiller`: the teacher gives {teacher.shape[-1]} classes and the "
            f"student {student.shape[-1]} (last axes of their outputs). Give both the "
            "same classes, or choose an output with `output=`."
        )
    if student.shape[1:] != teacher.shape[1:]:
        raise ValueError(
            "`Distiller`: teacher and student give outputs of different shapes, "
            f"{teacher.shape} and {student.shape}. Distillation compares them position "
            "by position."
        )


def warn_uncentered_comparison(losses, student_kind, teacher_kind):
    """Warns of a loss on raw logits where those of one model are not known.

    Args:
        losses: Distillation losses by name.
        student_kind: Of output, see `keras_dtkd.core.logits`.
        teacher_kind: Of output, see `keras_dtkd.core.logits`.
    """
    if (student_kind == logits.SOFTMAX) == (teacher_kind == logits.SOFTMAX):
        return
    role = "student" if student_kind == logits.SOFTMAX else "teacher"
    for name, loss in losses.items():
        if getattr(loss, "centered", None) is False:
            warnings.warn(
                f"`{name}` compares raw logits, and those of the {role}, which ends in "
                "a softmax, are known up to a constant of each sample only. Set "
                "`centered=True`.",
                stacklevel=2,
            )


def match_multilabel(student, teacher):
    """Logits beside a sigmoid are a choice for each label too.

    Args:
        student: An `OutputSpec`.
        teacher: An `OutputSpec`.

    Returns:
        Both, of one kind.

    Raises:
        ValueError: One chooses a class, and the other judges each label.
    """
    kinds = student.output_kind, teacher.output_kind
    if (kinds[0] in MULTILABEL_KINDS) == (kinds[1] in MULTILABEL_KINDS):
        return student, teacher
    student, teacher = _to_multilabel(student), _to_multilabel(teacher)
    if logits.SOFTMAX in (student.output_kind, teacher.output_kind):
        raise ValueError(
            f"`Distiller`: the student ends in {student.output_kind} and the teacher "
            f"in {teacher.output_kind}: one chooses a class, the other each label by "
            "itself. Give both the same kind of output."
        )
    return student, teacher
