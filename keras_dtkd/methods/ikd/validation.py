"""What can be wrong with a teacher that is to learn, before the first step.

Arguments raise at once where they are wrong: those of the constructor, of `compile`,
and the exam as it is given. `check_feedback` returns issues.
"""

import keras
from keras import ops

from keras_dtkd.core.arrays import num_samples, to_numpy
from keras_dtkd.core.issue import ERROR, Issue, report_issues
from keras_dtkd.losses.input_gradient_checks import check_second_order
from keras_dtkd.methods.ikd.lookahead import ESTIMATORS
from keras_dtkd.preparation.measure import measure_inputs
from keras_dtkd.validation import labels
from keras_dtkd.validation.data import check_auxiliary_inputs, check_lists

FEEDBACK_MODES = ("feedback", "teacher", "student")
NAME, EXAM = "InteractiveDistiller", "the exam"
IKD = f"`{NAME}`"


def reject_loss_arguments(losses, others):
    """No loss: the method has its own."""
    given = [] if losses is None else ["distillation_losses"]
    given += [name for name in ("task_weight", "views") if name in others]
    if given:
        raise TypeError(
            f"{IKD}: its loss is fixed, α τ² KL + (1 − α) CE. Give `temperature=` and "
            f"`alpha=` in place of `{given[0]}`, or use `Distiller`."
        )


def reject_teacher_optimizer_in_compile(options):
    """No `teacher_optimizer`: it is an argument of the constructor."""
    if "teacher_optimizer" in options:
        raise TypeError(
            f"`{NAME}.compile`: the optimizer is the student's. Give the teacher's to "
            f"the constructor: `{NAME}(..., teacher_optimizer=...)`."
        )


def validate_arguments(
    temperature, alpha, lookahead_learning_rate, estimator, exam_for, teacher
):
    """Numbers in their range, choices that there are, and a teacher to train."""
    for name, value in (
        ("temperature", temperature),
        ("lookahead_learning_rate", lookahead_learning_rate),
    ):
        if not _number(value) or value <= 0:
            raise ValueError(
                f"{IKD}: `{name}` must be a number above 0. Received: {name}={value!r}."
            )
    if not _number(alpha) or not 0 < alpha <= 1:
        raise ValueError(
            f"{IKD}: `alpha`, the weight of the soft targets, must lie in (0, 1]. "
            f"Received: alpha={alpha!r}."
        )
    for name, value, known in (
        ("estimator", estimator, ESTIMATORS),
        ("exam_for", exam_for, FEEDBACK_MODES),
    ):
        if value not in known:
            raise ValueError(
                f"{IKD}: `{name}` must be one of {known}. Received: {name}={value!r}."
            )
    if not isinstance(teacher, keras.Model):
        raise TypeError(
            f"{IKD}: `teacher` must be a `keras.Model`, since it is trained. Received: "
            f"{type(teacher).__name__}."
        )


def _number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def validate_pair(exam):
    """The exam as a pair of inputs and labels."""
    if not isinstance(exam, list | tuple) or len(exam) != 2:
        raise ValueError(
            f"{IKD}: the exam is a {type(exam).__name__}. Give `exam=(x, y)`, arrays "
            "of some labelled samples."
        )
    return exam


def validate_feedback_data(x, y, batch_size):
    """Arrays of labelled samples, as many as the exam's batch."""
    if y is None:
        raise ValueError(
            f"{IKD}: the exam needs labels. Give `fit(..., exam=(x, y))` or "
            "`set_exam(x, y)` arrays of some labelled samples."
        )
    report_issues(check_lists(x, y, "exam's "))
    if num_samples(x) != num_samples(y) or not num_samples(x):
        raise ValueError(
            f"{IKD}: the exam has {num_samples(x)} inputs and {num_samples(y)} labels. "
            "Give each sample its label."
        )
    if batch_size is not None and not 1 <= batch_size <= num_samples(x):
        raise ValueError(
            f"{IKD}: `exam_batch_size` must be from 1 to the exam's {num_samples(x)} "
            f"samples. Received: exam_batch_size={batch_size!r}."
        )


def feedback_labels(distiller, y):
    """The exam's labels of the distilled output."""
    key, student = distiller.distilled_output, distiller.student
    report_issues(labels.check_labels_of_output(NAME, EXAM, student, key, y))
    y = labels.select_labels(student, key, y)
    report_issues(labels.check_text_labels(to_numpy(y), " of the exam"))
    return y


def check_feedback(distiller, context):
    """What would make the feedback wrong: models, compilation, or the exam.

    Args:
        distiller: The `InteractiveDistiller`.
        context: The `ValidationContext`, compiled.
    """
    student, teacher = distiller.student, distiller.trainable_teacher
    issues: list = []
    if distiller.exam_for != "student" and not teacher.trainable_variables:
        message = f"{IKD}: the teacher has no trainable weights, and is to learn."
        hint = "Set `teacher.trainable = True`, or use `Distiller`."
        issues.append(Issue("no_trainable_weights", ERROR, message, hint))
    for role, model in (("student", student), ("teacher", teacher)):
        if model.compute_dtype == "float16":
            message = (
                f"{IKD}: the {role} computes in float16, in which a second "
                "derivative is lost."
            )
            hint = "Use float32 or bfloat16."
            issues.append(Issue("float16", ERROR, message, hint))
    if distiller.exam_for == "feedback" and distiller.estimator == "exact":
        issues += check_second_order(NAME, context.compiled.jit_compile)
    if distiller.feedback_data.exam is None:
        return [*issues, no_exam()]
    x, y = keras.tree.map_structure(ops.convert_to_numpy, distiller.feedback_data.exam)
    sample = context.sample._replace(x=context.inputs)
    measured = measure_inputs(x, sample, {"teacher": teacher, "student": student})
    issues += check_auxiliary_inputs(NAME, EXAM, x, sample, measured)
    return issues + labels.check_distilled_labels(
        context, context.student_spec, y, " of the exam"
    )


def no_exam():
    """The issue that no exam was given."""
    message = f"{IKD}: there is no exam."
    hint = (
        "Give `fit(..., exam=(x, y))` some labelled samples of the training data, or "
        "call `set_exam(x, y)`."
    )
    return Issue("no_exam", ERROR, message, hint)
