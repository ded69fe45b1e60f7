"""What kind of outputs two models give, and whether they fit together."""

import warnings

import numpy as np

from keras_dtkd import teachers
from keras_dtkd.core import arrays, logits
from keras_dtkd.core.compiled_loss import compiled_loss
from keras_dtkd.preparation.output_spec import OutputSpec
from keras_dtkd.teachers import sample_ids

MULTILABEL_KINDS = (logits.SIGMOID, logits.BINARY)


def infer_output_specs(distiller, sample, with_teacher=True):
    """The outputs of student and teacher, checked against each other.

    Args:
        distiller: The Distiller.
        sample: The `keras_dtkd.preparation.data_peek.Sample`.
        with_teacher: Whether the teacher will be heard.

    Returns:
        `(student, teacher)`, two `Outputs`; the second may be `None`.

    Raises:
        ValueError: One gives no logits, or they do not fit together.
    """
    key, from_logits = distiller.distilled_output, distiller.from_logits
    loss = compiled_loss(distiller) or compiled_loss(distiller.student)
    student = OutputSpec(
        teachers.ModelTeacher(distiller.student),
        "student",
        sample,
        key,
        from_logits,
        loss,
        False,
    )
    _apply_multilabel_losses(distiller, student)
    if not with_teacher:
        _validate_output_key(key, student)
        return student, None
    teacher = OutputSpec(
        distiller.held.teacher,
        "teacher",
        sample,
        key,
        from_logits,
        compiled_loss(getattr(distiller.held.teacher, "model", None)),
        True,
    )
    _validate_output_key(key, student, teacher)
    _validate_finite_outputs(
        student, teacher, arrays.describe_nan_inputs(sample_ids.model_inputs(sample.x))
    )
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
    _apply_multilabel_losses(distiller, teacher)
    _match_multilabel(student, teacher)
    return student, teacher


def _apply_multilabel_losses(distiller, outputs):
    """A loss may ask that logits be a choice for each label."""
    for name, loss in distiller.distillation_losses.items():
        if not loss.multilabel:
            continue
        if logits.SOFTMAX in (outputs.head, *getattr(outputs.teacher, "heads", ())):
            raise ValueError(
                f"`Distiller`: `{name}` judges each label by itself, but the "
                f"{outputs.role} ends in a softmax, which chooses one class. Give it a "
                "linear or sigmoid head, or take another loss."
            )
        _to_multilabel(outputs)


def _to_multilabel(outputs):
    if outputs.head == logits.LOGITS:
        outputs.head = logits.BINARY
        if isinstance(outputs.teacher, teachers.Ensemble):
            outputs.teacher.multilabel()


def _validate_output_key(key, *models):
    """`output=` names something, also where there is only one."""
    if key in (None, 0, -1) or any(outputs.nested for outputs in models):
        return
    known = [name for outputs in models for name in outputs.names or ()]
    if key not in known:
        names = ", ".join(map(repr, dict.fromkeys(known)))
        or_name = f", or name it: {names}" if known else ""
        raise ValueError(
            f"`Distiller`: there is no output {key!r}. Each model has one; leave "
            f"`output=` out{or_name}."
        )


def _validate_finite_outputs(student, teacher, nan):
    """No NaN, and something to choose. A class may be excluded by `-inf`.

    `nan` says which inputs hold NaN. The student is only looked at where some do.
    """
    if arrays.has_invalid_logits(teacher.values):
        cause = (
            f"The data holds NaN in {nan}: replace them, or leave those samples out."
            if nan
            else "Look at its inputs and its precision (float16 overflows at 65504)."
        )
        raise ValueError(
            f"`Distiller`: the teacher's first outputs hold NaN or infinity. {cause}"
        )
    if not nan:
        return
    student.look()
    if np.isnan(student.values).any():
        raise ValueError(
            f"`Distiller`: the data holds NaN in {nan}, and the student's first "
            "outputs do too. Replace them, or leave those samples out."
        )
    warnings.warn(
        f"`Distiller`: the data holds NaN in {nan}. Both models give finite outputs "
        "all the same; if they are not made for that, replace the NaN.",
        stacklevel=5,
    )


def warn_uncentered_comparison(losses, heads):
    """Warns of a loss on raw logits where one model's are not known.

    Args:
        losses: Distillation losses by name.
        heads: Of student and teacher.
    """
    if (heads[0] == logits.SOFTMAX) == (heads[1] == logits.SOFTMAX):
        return
    who = "student" if heads[0] == logits.SOFTMAX else "teacher"
    for name, loss in losses.items():
        if getattr(loss, "centered", None) is False:
            warnings.warn(
                f"`{name}` compares raw logits, and those of the {who}, which ends in "
                "a softmax, are known up to a constant of each sample only. Set "
                "`centered=True`.",
                stacklevel=2,
            )


def _match_multilabel(student, teacher):
    """Logits beside a sigmoid are a choice for each label too."""
    if (student.head in MULTILABEL_KINDS) == (teacher.head in MULTILABEL_KINDS):
        return
    for outputs in (student, teacher):
        _to_multilabel(outputs)
    if logits.SOFTMAX in (student.head, teacher.head):
        raise ValueError(
            f"`Distiller`: the student ends in {student.head} and the teacher in "
            f"{teacher.head}: one chooses a class, the other judges each label by "
            "itself. Give both the same kind of head."
        )
