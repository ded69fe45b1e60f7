"""Labels that are missing, of no use, or that no output of the student can give."""

import dataclasses

import keras
import numpy as np

from keras_dtkd.core import logits
from keras_dtkd.core.arrays import to_numpy
from keras_dtkd.core.compiled_loss import (
    REGRESSION_LOSSES,
    canonical_loss_name,
    select_for_output,
)
from keras_dtkd.core.issue import ERROR, WARNING, Issue

# Of the sum of probabilities from 1, in half precision too.
MAX_SUM_ERROR = 0.01
REGRESSION_HINT = "For a regression compile the student: `compile('adam', 'mse')`."


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
    if context.has_own_loss:
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
    sample = context.sample
    if context.y is not None:
        sample = sample._replace(y=context.y, sample_weight=context.sample_weight)
    issues = _check_outputs_labels(context, sample, "")
    if context.validation is not None:
        data = context.validation, " of the validation data"
        issues += _check_outputs_labels(context, *data)
    return issues


def _check_outputs_labels(context, sample, description):
    y = sample.y
    if y is None or context.student_spec is None or context.compiled is None:
        return []
    issues: list = []
    for index, (name, shape) in enumerate(context.student_spec.shapes.items()):
        loss, values, weights = (
            select_for_output(part, name, index)
            for part in (context.compiled.loss, y, sample.sample_weight)
        )
        if isinstance(loss, dict | list | tuple) or keras.tree.is_nested(values):
            continue
        if loss is not None and values is not None and len(shape) > 1:
            output = "" if name is None else f" of {name!r}"
            issues += check_against_output(
                to_numpy(values),
                shape,
                loss,
                description + output,
                weights if weights is None else to_numpy(weights),
                context.compiled.is_default,
            )
    return issues


def find_class_ranges(context):
    """Of outputs with a sparse cross-entropy: name, index, number of classes, ignored.

    The last is the label that the loss leaves out, or `None`.
    """
    if context.student_spec is None or context.compiled is None:
        return
    for index, (name, shape) in enumerate(context.student_spec.shapes.items()):
        loss = select_for_output(context.compiled.loss, name, index)
        if canonical_loss_name(loss) == "sparse_categorical_crossentropy":
            yield name, index, shape[-1], getattr(loss, "ignore_class", None)


def check_batch_labels(ranges, y):
    """Labels of one batch outside of `class_ranges`. Of tensors it takes a copy."""
    for name, index, classes, ignored in ranges:
        values = select_for_output(y, name, index)
        if values is None or keras.tree.is_nested(values):
            continue
        description = " of a batch" if name is None else f" of a batch, {name!r},"
        values = np.asarray(values)
        yield from _check_range(values, classes, ignored, description)


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


def check_against_output(
    values, shape, loss, description="", weights=None, is_default=True
):
    """NumPy labels that do not fit the cross-entropy of one output.

    `shape` is that of the output, `(batch, ..., classes)`. Labels fit any other loss.
    `weights` are those of the samples, NumPy, or `None`; `is_default` says that the
    user did not choose the loss.
    """
    kind, classes = canonical_loss_name(loss), shape[-1]
    if is_text(values):
        return check_text_labels(values, description)
    if not values.size or values.dtype.kind not in "iufb":
        return []
    if kind in REGRESSION_LOSSES and values.ndim == len(shape) - 1 and classes > 1:
        problem = (
            f"of shape {values.shape} do not fit outputs of {classes} numbers and the "
            f"loss {kind!r}."
        )
        hint = "Give a number for each output."
        if values.dtype.kind in "iub":
            hint += (
                " For class numbers compile with `keras.losses."
                "SparseCategoricalCrossentropy(from_logits=True)`, or with "
                "`from_logits=False` after a softmax."
            )
        return _invalid(description, problem, hint)
    if "crossentropy" not in kind:
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
        hint = (
            "Renumber the labels, or give the models an output for each class. "
            + REGRESSION_HINT
        )
        return _invalid(description, problem, hint)
    if kind == "categorical_crossentropy":
        return _check_class_probs(values, shape, description, weights, is_default)
    return []


def _check_class_probs(values, shape, description, weights, is_default):
    """Numbers for each class that are no probabilities: multi-hot labels, logits."""
    if values.min() < 0 or values.max() > 1:
        problem = (
            f"from {values.min():.4g} to {values.max():.4g} are no probabilities of "
            "the classes."
        )
        hint = (
            "Give one-hot labels of 0 and 1 (`keras.utils.to_categorical`), or class "
            "numbers."
        )
        return _invalid(description, problem, hint)
    sums = values.sum(axis=-1, dtype="float64")
    is_counted = np.ones(sums.shape, bool)
    if weights is not None and weights.ndim <= sums.ndim:
        missing = (1,) * (sums.ndim - weights.ndim)
        is_counted &= weights.reshape(weights.shape + missing) != 0
    if len(shape) > 2:
        # Padding.
        is_counted &= sums != 0
    wrong = sums[is_counted & (np.abs(sums - 1) > MAX_SUM_ERROR)]
    if not wrong.size:
        return []
    problem = (
        f"have {wrong.size} rows that do not sum to 1 but to {wrong.min():.4g} up to "
        f"{wrong.max():.4g}: no probabilities of the classes."
    )
    hint = (
        "If a sample may have several classes, give the student a sigmoid, or compile "
        "it with `BinaryCrossentropy(from_logits=True)`, and distil with `BinaryKD()`. "
        "Leave samples without a class out, or give them a `sample_weight` of 0."
    )
    (issue,) = _invalid(description, problem, hint)
    return [issue if is_default else dataclasses.replace(issue, severity=WARNING)]


def _check_class_labels(values, shape, loss, kind, description):
    classes = shape[-1]
    is_known = kind == "sparse_categorical_crossentropy"
    if is_known and values.ndim == len(shape) and values.shape[-1] == classes > 1:
        problem = (
            f"of shape {values.shape} have a number for each of {classes} classes, but "
            f"the loss, {kind!r}, takes one integer for each choice."
        )
        hint = (
            "Give integers, `np.argmax(y, axis=-1)`, or compile with "
            "`CategoricalCrossentropy`."
        )
        return _invalid(description, problem, hint)
    if is_known and not _has_class_label_shape(values, shape):
        problem = f"of shape {values.shape} do not fit outputs of {classes} classes."
        hint = (
            "Give one integer for each choice, or one-hot labels with as many columns "
            "as there are classes."
        )
        return _invalid(description, problem, hint)
    if values.dtype.kind == "f" and (fractions := values[values % 1 != 0]).size:
        problem = f"such as {fractions[0]:.4g} are fractions, and no class numbers."
        hint = f"Number the classes from 0. {REGRESSION_HINT}"
        return _invalid(description, problem, hint)
    ignored = getattr(loss, "ignore_class", None)
    return _check_range(values, classes, ignored, description)


def _check_range(values, classes, ignored, description):
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
