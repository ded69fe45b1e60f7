"""What can be known to be wrong with a teacher that is to learn."""

import keras
from keras import ops

from keras_dtkd.core.arrays import num_samples, to_numpy
from keras_dtkd.methods.ikd.lookahead import ESTIMATORS
from keras_dtkd.preparation.data_peek import reject_lists_of_scalars
from keras_dtkd.teachers import sample_ids
from keras_dtkd.validation import auxiliary_data, input_gradients, labels

FEEDBACK_MODES = ("feedback", "teacher", "student")
NAME, EXAM = "InteractiveDistiller", "the exam"
WHO = f"`{NAME}`"


def reject_loss_arguments(losses, others):
    """The course's loss is the method's own.

    Args:
        losses: `distillation_losses` as given.
        others: Arguments for the `Distiller`.

    Raises:
        TypeError: Another was given.
    """
    given = [] if losses is None else ["distillation_losses"]
    given += [name for name in ("task_weight", "views") if name in others]
    if given:
        raise TypeError(
            f"{WHO}: its loss is fixed, α τ² KL + (1 − α) CE. Give `temperature=` and "
            f"`alpha=` in place of `{given[0]}`, or use `Distiller`."
        )


def reject_teacher_optimizer_in_compile(options):
    """It is an argument of the constructor, not of `compile`."""
    if "teacher_optimizer" in options:
        raise TypeError(
            f"`{NAME}.compile`: the optimizer is the student's. Give the teacher's to "
            f"the constructor: `{NAME}(..., teacher_optimizer=...)`."
        )


def validate_arguments(
    temperature, alpha, lookahead_learning_rate, estimator, exam_for, teacher
):
    """The arguments that speak for themselves."""
    for name, value in (
        ("temperature", temperature),
        ("lookahead_learning_rate", lookahead_learning_rate),
    ):
        if not _number(value) or value <= 0:
            raise ValueError(
                f"{WHO}: `{name}` must be a number above 0. Received: {name}={value!r}."
            )
    if not _number(alpha) or not 0 < alpha <= 1:
        raise ValueError(
            f"{WHO}: `alpha`, the weight of the soft targets, must lie in (0, 1]. "
            f"Received: alpha={alpha!r}."
        )
    for name, value, known in (
        ("estimator", estimator, ESTIMATORS),
        ("exam_for", exam_for, FEEDBACK_MODES),
    ):
        if value not in known:
            raise ValueError(
                f"{WHO}: `{name}` must be one of {known}. Received: {name}={value!r}."
            )
    if not isinstance(teacher, keras.Model):
        raise TypeError(
            f"{WHO}: `teacher` must be a `keras.Model`, since it is trained. Received: "
            f"{type(teacher).__name__}."
        )


def _number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def validate_pair(exam):
    """Inputs and labels."""
    if not isinstance(exam, list | tuple) or len(exam) != 2:
        raise ValueError(
            f"{WHO}: the exam is a {type(exam).__name__}. Give `exam=(x, y)`, arrays "
            "of some labelled samples."
        )
    return exam


def validate_feedback_data(x, y, batch_size):
    """Samples that can be examined on."""
    if y is None:
        raise ValueError(
            f"{WHO}: the exam needs labels. Give `fit(..., exam=(x, y))` or "
            "`set_exam(x, y)` arrays of some labelled samples."
        )
    reject_lists_of_scalars(x, y, "exam's ")
    if num_samples(x) != num_samples(y) or not num_samples(x):
        raise ValueError(
            f"{WHO}: the exam has {num_samples(x)} inputs and {num_samples(y)} labels. "
            "Give each sample its label."
        )
    if batch_size is not None and not 1 <= batch_size <= num_samples(x):
        raise ValueError(
            f"{WHO}: `exam_batch_size` must be from 1 to the exam's {num_samples(x)} "
            f"samples. Received: exam_batch_size={batch_size!r}."
        )


def feedback_labels(distiller, y):
    """The exam's labels of the distilled output."""
    y = labels.labels_of_distilled_output(distiller, y, NAME, EXAM)
    labels.reject_text_labels(to_numpy(y), " of the exam")
    return y


def validate_feedback_inputs(distiller, sample):
    """Both models can take the exam's inputs, and give its labels.

    Args:
        distiller: The Distiller, compiled, its models inspected.
        sample: The `keras_dtkd.preparation.data_peek.Sample` of the course.
    """
    x, y = keras.tree.map_structure(ops.convert_to_numpy, distiller.feedback_data.exam)
    roles = {"teacher": distiller.trainable_teacher, "student": distiller.student}
    sample = sample._replace(x=sample_ids.model_inputs(sample.x))
    auxiliary_data.validate_auxiliary_inputs(NAME, EXAM, x, sample, roles)
    labels.validate_distilled_labels(distiller, y, " of the exam")


def reject_float16(student, teacher):
    """Neither computes in float16."""
    for role, model in (("student", student), ("teacher", teacher)):
        if model.compute_dtype == "float16":
            raise ValueError(
                f"{WHO}: the {role} computes in float16, in which a second derivative "
                "is lost. Use float32 or bfloat16."
            )


def reject_jit_second_order(distiller):
    """The step can be compiled, if it is to be."""
    if distiller.exam_for == "feedback" and distiller.estimator == "exact":
        input_gradients.reject_jit_second_order("InteractiveDistiller", distiller)


def require_feedback_data(found):
    """The exam was given."""
    if found is None:
        raise ValueError(
            f"{WHO}: there is no exam. Give `fit(..., exam=(x, y))` some labelled "
            "samples of the training data, or call `set_exam(x, y)`."
        )


def require_trainable_teacher(teacher):
    """The teacher has variables to train."""
    if not teacher.trainable_variables:
        raise ValueError(
            f"{WHO}: the teacher has no trainable weights, and is to learn. Set "
            "`teacher.trainable = True`, or use `Distiller`."
        )
