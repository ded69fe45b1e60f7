"""What can be known to be wrong with a teacher that is to learn."""

import keras
from keras import ops

from keras_dtkd import label_checks, logits
from keras_dtkd.compiled_losses import distilled, of_output
from keras_dtkd.data import no_lists, rows_of
from keras_dtkd.gradient_checks import second_derivative
from keras_dtkd.interactive.look_ahead import ESTIMATORS

PURPOSES = ("feedback", "teacher", "student")
WHO = "`InteractiveDistiller`"


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
            f"{WHO}: the exam needs labels: `exam=(x, y)`, arrays of some labelled "
            "samples."
        )
    no_lists(x, y)
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
    try:
        return distilled(distiller, y)
    except KeyError as error:
        raise ValueError(
            f"{WHO}: the exam needs the labels of the distilled output, "
            f"{distiller.output_key!r}. There are: {error.args[0]}."
        ) from error


def exam_labels(distiller, y):
    """The distilled output can give them: in whatever form the course has its own.

    Args:
        distiller: The Distiller, compiled, its models looked at.
        y: The exam's labels, a tensor.
    """
    shapes, key = distiller.held.student_shapes, distiller.output_key
    names = list(shapes)
    name = names[0] if len(names) == 1 else logits.pick(names, key, names)
    shape, values = shapes[name], ops.convert_to_numpy(y)
    if distiller.held.heads[0] in (logits.SIGMOID, logits.BINARY):
        loss = keras.losses.BinaryCrossentropy()
    elif values.ndim == len(shape) and values.shape[-1] == shape[-1]:
        loss = keras.losses.CategoricalCrossentropy()
    else:
        course = of_output(distiller.loss, name, names.index(name))
        ignored = getattr(course, "ignore_class", None)
        loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=ignored)
    label_checks.fit(values, shape, loss, " of the exam")


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
