"""Labels that are missing, of no use, or that no output of the student can give."""

import keras
import numpy as np

from keras_dtkd.core import logits
from keras_dtkd.core.arrays import to_numpy
from keras_dtkd.core.compiled_loss import canonical_loss_name, select_for_output
from keras_dtkd.core.issue import ERROR, WARNING, Issue


def check_missing_labels(context):
    """Labels that are missing where nothing but they could be measured."""
    if context.evaluate_distillation:
        return []
    if context.is_training:
        validation = context.validation
        is_unlabelled = context.validation_split and context.y is None
        if validation is not None:
            is_unlabelled = validation.y is None
        if not is_unlabelled:
            return []
        message = (
            "`Distiller.fit`: the validation data has no labels, so nothing can be "
            "measured."
        )
        hint = "Pass labels, "
    elif context.teacher is None and context.sample.y is None:
        message = (
            "`Distiller.evaluate`: there are no labels, so nothing can be measured."
        )
        hint = "Pass `y`, "
    else:
        return []
    hint += "or make the Distiller with `evaluate_distillation=True`."
    return [Issue("missing_labels", ERROR, message, hint)]


def check_unused_labels(context):
    """Labels beside which nothing was compiled that uses them."""
    compiled = context.compiled
    if context.sample.y is None or compiled is None or compiled.loss is not None:
        return []
    if compiled.has_own_loss:
        return []
    if any(metric is not None for metric in compiled.metrics):
        return []
    message = (
        "`Distiller`: there are labels, but it was compiled without a loss: they teach "
        "nothing."
    )
    hint = (
        "Compile with a loss, or leave `compile` out: the cross-entropy that fits is "
        "then chosen."
    )
    return [Issue("unused_labels", WARNING, message, hint)]


def check_labels(context):
    """Labels that do not fit the cross-entropies of the student's outputs."""
    y = context.sample.y if context.y is None else context.y
    issues = _check_outputs_labels(context, y, "")
    if context.validation is not None:
        y = context.validation.y
        issues += _check_outputs_labels(context, y, " of the validation data")
    return issues


def _check_outputs_labels(context, y, description):
    if y is None or context.student_spec is None or context.compiled is None:
        return []
    issues: list = []
    for index, (name, shape) in enumerate(context.student_spec.shapes.items()):
        loss, values = (
            select_for_output(part, name, index) for part in (context.compiled.loss, y)
        )
        if isinstance(loss, dict | list | tuple) or keras.tree.is_nested(values):
            continue
        if loss is not None and values is not None and len(shape) > 1:
            output = "" if name is None else f" of {name!r}"
            issues += check_against_output(
                to_numpy(values), shape, loss, description + output
            )
    return issues


def select_labels(student, key, y):
    """The labels of the distilled output. Raises `KeyError` where there are none."""
    return logits.select_output(y, key, getattr(student, "output_names", None))


def check_labels_of_output(caller, description, student, key, y):
    """Labels of several outputs, without those of the distilled one."""
    try:
        select_labels(student, key, y)
    except KeyError as error:
        message = (
            f"`{caller}`: {description} needs the labels of the distilled output, "
            f"{key!r}."
        )
        hint = f"There are: {error.args[0]}."
        return [Issue("missing_labels", ERROR, message, hint)]
    return []


def check_distilled_labels(context, spec, values, description, padding=None):
    """Labels beside the training data's, of the student's output `spec`, in any form.

    `padding` is an integer that is no label in sequences.
    """
    shape = spec.shape
    if padding is not None and len(shape) > 2 and not is_text(values):
        values = np.where(values == padding, 0, values)
    if spec.output_kind.is_multilabel:
        loss = keras.losses.BinaryCrossentropy()
    elif values.ndim == len(shape) and values.shape[-1] == shape[-1]:
        loss = keras.losses.CategoricalCrossentropy()
    else:
        names = list(spec.shapes)
        name = spec.select(names) if len(names) > 1 else names[0]
        training_loss = select_for_output(
            context.compiled.loss, name, names.index(name)
        )
        ignored = getattr(training_loss, "ignore_class", None)
        loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=ignored)
    return check_against_output(values, shape, loss, description)


def is_text(values):
    """Whether NumPy labels are words and no numbers."""
    return values.dtype.kind in "OSTU"


def _has_class_label_shape(values, shape):
    """Whether NumPy labels name one class for each choice of outputs."""
    if values.ndim == len(shape):
        return values.shape[-1] == 1
    return values.ndim == len(shape) - 1


def check_text_labels(values, description=""):
    """NumPy labels that are words."""
    if not is_text(values) or not values.size:
        return []
    problem = f"such as {str(values.flat[0])!r} are no numbers."
    hint = (
        "Number the classes as the teacher does: `np.searchsorted(names, y)` for "
        "sorted names."
    )
    return _invalid(description, problem, hint)


def check_against_output(values, shape, loss, description=""):
    """NumPy labels that do not fit the cross-entropy of one output.

    `shape` is that of the output, `(batch, ..., classes)`. Labels fit any other loss.
    """
    kind, classes = canonical_loss_name(loss), shape[-1]
    if is_text(values):
        return check_text_labels(values, description)
    if "crossentropy" not in kind or not values.size or values.dtype.kind not in "iufb":
        return []
    if values.dtype.kind == "f" and np.isnan(values).any():
        return _invalid(description, "hold NaN.", "Leave those samples out.")
    if "sparse" in kind:
        return _check_class_labels(values, shape, loss, kind, description)
    width = values.shape[-1] if values.ndim == len(shape) else 1
    if width != classes:
        remedy = "a column for each output" if "binary" in kind else "one-hot labels"
        if "binary" not in kind and values.ndim < len(shape):
            remedy += ", or compile with a sparse cross-entropy"
        problem = (
            f"of shape {values.shape} do not fit outputs of {classes} classes and the "
            f"loss {kind!r}."
        )
        return _invalid(description, problem, f"Give {remedy}.")
    if "binary" in kind and (values.min() < 0 or values.max() > 1):
        problem = (
            f"from {values.min()} to {values.max()}, but each output is a choice "
            "between no (0) and yes (1)."
        )
        hint = "Renumber the labels, or give the models an output for each class."
        return _invalid(description, problem, hint)
    return []


def _check_class_labels(values, shape, loss, kind, description):
    classes = shape[-1]
    is_known = kind == "sparse_categorical_crossentropy"
    if is_known and not _has_class_label_shape(values, shape):
        problem = f"of shape {values.shape} do not fit outputs of {classes} classes."
        hint = (
            "Give one integer for each choice, or one-hot labels with as many columns "
            "as there are classes."
        )
        return _invalid(description, problem, hint)
    ignored = getattr(loss, "ignore_class", None)
    values = values if ignored is None else values[values != ignored]
    if values.size and (values.min() < 0 or values.max() >= classes):
        problem = (
            f"from {values.min()} to {values.max()}, but the models have the classes 0 "
            f"to {classes - 1}."
        )
        hint = "Renumber the labels, or give the models more classes."
        return _invalid(description, problem, hint)
    return []


def _invalid(description, problem, hint):
    message = f"`Distiller`: labels{description} {problem}"
    return [Issue("invalid_labels", ERROR, message, hint)]
