"""What can be wrong with a teacher that is to learn, before the first step."""

import keras
from keras import ops

from keras_dtkd.core.arguments import check_choice, check_in_range, check_number
from keras_dtkd.core.arrays import num_samples, to_numpy
from keras_dtkd.core.compiled_loss import (
    CROSS_ENTROPIES,
    canonical_loss_name,
    select_for_output,
)
from keras_dtkd.core.issue import ERROR, WARNING, Issue, report_issues
from keras_dtkd.core.logits import find_name_and_index
from keras_dtkd.losses.input_gradient_checks import check_second_order
from keras_dtkd.methods.ikd.lookahead import ESTIMATORS
from keras_dtkd.preparation.measure import check_auxiliary_inputs
from keras_dtkd.validation import labels
from keras_dtkd.validation.data import check_arrays

FEEDBACK_MODES = ("feedback", "teacher", "student")
NAME, EXAM = "InteractiveDistiller", "the exam"


def reject_loss_arguments(losses, others):
    """No loss: the method has its own."""
    given = [] if losses is None else ["distillation_losses"]
    given += [name for name in ("task_weight", "views") if name in others]
    for name in ("rollout", "teacher_inputs", "evaluate_distillation"):
        if others.get(name):
            raise TypeError(f"`{NAME}`: it has no `{name}`. Use `Distiller`.")
    if given:
        raise TypeError(
            f"`{NAME}`: its loss is fixed, α τ² KL + (1 − α) CE. Give `temperature=` "
            f"and `alpha=` in place of `{given[0]}`, or use `Distiller`."
        )


def validate_arguments(
    temperature, alpha, lookahead_learning_rate, estimator, exam_for, teacher
):
    """Numbers in their range, choices that there are, and a teacher to train."""
    check_in_range(NAME, "temperature", temperature, 0)
    check_in_range(NAME, "lookahead_learning_rate", lookahead_learning_rate, 0)
    if not 0 < check_number(NAME, "alpha", alpha) <= 1:
        raise ValueError(
            f"`{NAME}`: `alpha`, the weight of the soft targets, must lie in (0, 1]. "
            f"Received: alpha={alpha!r}."
        )
    check_choice(NAME, "estimator", estimator, ESTIMATORS)
    check_choice(NAME, "exam_for", exam_for, FEEDBACK_MODES)
    if not isinstance(teacher, keras.Model):
        raise TypeError(
            f"`{NAME}`: `teacher` must be a `keras.Model`, since it is trained. "
            f"Received: {type(teacher).__name__}."
        )


def validate_exam(distiller, x, y):
    """The exam's labels of the distilled output, or a `ValueError`."""
    if y is None:
        raise ValueError(
            f"`{NAME}`: the exam needs labels. Give `fit(..., exam=(x, y))` or "
            "`set_exam(x, y)` arrays of some labelled samples."
        )
    report_issues(check_arrays(x, y, "exam ", NAME))
    batch_size = distiller.exam_batch_size
    if batch_size is not None and not 1 <= batch_size <= num_samples(x):
        raise ValueError(
            f"`{NAME}`: `exam_batch_size` must be from 1 to the exam's "
            f"{num_samples(x)} samples. Received: exam_batch_size={batch_size!r}."
        )
    key, student = distiller.distilled_output, distiller.student
    report_issues(labels.check_labels_of_output(NAME, EXAM, student, key, y))
    y = labels.select_labels(student, key, y)
    report_issues(labels.check_text_labels(to_numpy(y), " of the exam"))
    return y


def check_feedback(distiller, context):
    """Issues of the models, the compilation and the exam."""
    student, teacher = distiller.student, distiller.trainable_teacher
    issues: list = []
    if distiller.exam_for != "student" and not teacher.trainable_variables:
        message = "the teacher has no trainable weights, and is to learn."
        hint = "Set `teacher.trainable = True`, or use `Distiller`."
        issues.append(_error("no_trainable_weights", message, hint))
    models = {"teacher": teacher, "student": student}
    for role, model in models.items():
        if model.compute_dtype == "float16":
            message = (
                f"the {role} computes in float16, in which a second derivative is lost."
            )
            issues.append(_error("float16", message, "Use float32 or bfloat16."))
    if distiller.exam_for == "feedback" and distiller.estimator == "exact":
        issues += check_second_order(NAME, context.compiled.jit_compile)
    if distiller.exam_for == "feedback":
        issues += _check_lookahead_loss(distiller, context)
    if distiller.feedback_data.exam is None:
        hint = (
            "Give `fit(..., exam=(x, y))` some labelled samples of the training data, "
            "or call `set_exam(x, y)`."
        )
        return [*issues, _error("no_exam", "there is no exam.", hint)]
    x, y = keras.tree.map_structure(ops.convert_to_numpy, distiller.feedback_data.exam)
    issues += check_auxiliary_inputs(NAME, EXAM, x, context, models)
    return issues + labels.check_distilled_labels(
        context, context.student_spec, y, " of the exam"
    )


def _check_lookahead_loss(distiller, context):
    """A loss on the labels that the look-ahead step does not take."""
    if context.sample.y is None or not context.compiled.task_weight:
        return
    message = "`compute_loss` of the student's class"
    if not context.has_own_loss:
        spec = context.student_spec
        where = find_name_and_index(spec.key, spec.names)
        loss = select_for_output(context.compiled.loss, *where)
        if loss is None or _is_plain_cross_entropy(loss):
            return
        message = f"the compiled loss, {getattr(loss, 'name', loss)!r},"
    yield Issue(
        "lookahead_loss",
        WARNING,
        f"`{NAME}`: {message} is not the plain cross-entropy of the labels, with which "
        "the look-ahead takes its step: the exam is of another student.",
        "Compile with a cross-entropy without label smoothing, or leave the loss out.",
    )


def _is_plain_cross_entropy(loss):
    loss = keras.losses.get(loss) if isinstance(loss, str) else loss
    if canonical_loss_name(loss) not in CROSS_ENTROPIES:
        return False
    config = loss.get_config() if hasattr(loss, "get_config") else {}
    # A focal loss has a `gamma`.
    return not config.get("label_smoothing") and "gamma" not in config


def _error(code, message, hint):
    return Issue(code, ERROR, f"`{NAME}`: {message}", hint)
