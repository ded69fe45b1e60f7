"""What can be known to be wrong with a teacher that is to learn."""

import keras
from keras import ops

from keras_dtkd import beside, label_checks, rows
from keras_dtkd.data import no_lists, rows_of, to_numpy
from keras_dtkd.gradient_checks import second_derivative
from keras_dtkd.interactive.look_ahead import ESTIMATORS

PURPOSES = ("feedback", "teacher", "student")
NAME, EXAM = "InteractiveDistiller", "the exam"
WHO = f"`{NAME}`"


def fixed_loss(losses, others):
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


def teachers_optimizer_is_known(options):
    """It is an argument of the constructor, not of `compile`."""
    if "teacher_optimizer" in options:
        raise TypeError(
            f"`{NAME}.compile`: the optimizer is the student's. Give the teacher's to "
            f"the constructor: `{NAME}(..., teacher_optimizer=...)`."
        )


def arguments(temperature, alpha, look_ahead, estimator, exam_for, teacher):
    """The arguments that speak for themselves."""
    for name, value in (("temperature", temperature), ("look_ahead", look_ahead)):
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
        ("exam_for", exam_for, PURPOSES),
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


def pair(exam):
    """Inputs and labels."""
    if not isinstance(exam, list | tuple) or len(exam) != 2:
        raise ValueError(
            f"{WHO}: the exam is a {type(exam).__name__}. Give `exam=(x, y)`, arrays "
            "of some labelled samples."
        )
    return exam


def exam(x, y, batch_size):
    """Samples that can be examined on."""
    if y is None:
        raise ValueError(
            f"{WHO}: the exam needs labels. Give `fit(..., exam=(x, y))` or "
            "`set_exam(x, y)` arrays of some labelled samples."
        )
    no_lists(x, y, "exam's ")
    if rows_of(x) != rows_of(y) or not rows_of(x):
        raise ValueError(
            f"{WHO}: the exam has {rows_of(x)} inputs and {rows_of(y)} labels. Give "
            "each sample its label."
        )
    if batch_size is not None and not 1 <= batch_size <= rows_of(x):
        raise ValueError(
            f"{WHO}: `exam_batch_size` must be from 1 to the exam's {rows_of(x)} "
            f"samples. Received: exam_batch_size={batch_size!r}."
        )


def labels_of(distiller, y):
    """The exam's labels of the distilled output."""
    y = label_checks.of_distilled(distiller, y, NAME, EXAM)
    label_checks.no_text(to_numpy(y), " of the exam")
    return y


def exam_fits(distiller, sample):
    """Both models can take the exam's inputs, and give its labels.

    Args:
        distiller: The Distiller, compiled, its models looked at.
        sample: The `keras_dtkd.data.Sample` of the course.
    """
    x, y = keras.tree.map_structure(ops.convert_to_numpy, distiller.held.exam)
    roles = {"teacher": distiller.taught, "student": distiller.student}
    sample = sample._replace(x=rows.inputs(sample.x))
    beside.look(NAME, EXAM, x, sample, roles)
    label_checks.fit_distilled(distiller, y, " of the exam")


def precise(student, teacher):
    """Neither computes in float16."""
    for role, model in (("student", student), ("teacher", teacher)):
        if model.compute_dtype == "float16":
            raise ValueError(
                f"{WHO}: the {role} computes in float16, in which a second derivative "
                "is lost. Use float32 or bfloat16."
            )


def derived_twice(distiller):
    """The step can be compiled, if it is to be."""
    if distiller.exam_for == "feedback" and distiller.estimator == "exact":
        second_derivative("InteractiveDistiller", distiller)


def has_exam(found):
    """The exam was given."""
    if found is None:
        raise ValueError(
            f"{WHO}: there is no exam. Give `fit(..., exam=(x, y))` some labelled "
            "samples of the training data, or call `set_exam(x, y)`."
        )


def something_to_teach(teacher):
    """The teacher has variables to train."""
    if not teacher.trainable_variables:
        raise ValueError(
            f"{WHO}: the teacher has no trainable weights, and is to learn. Set "
            "`teacher.trainable = True`, or use `Distiller`."
        )
