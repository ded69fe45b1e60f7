"""Labels that no output of the student can give."""

import keras
import numpy as np

from keras_dtkd.core import logits
from keras_dtkd.core.arrays import to_numpy
from keras_dtkd.core.compiled_loss import (
    canonical_loss_name,
    distilled_labels,
    select_for_output,
)


def validate_labels(distiller, y, whose=""):
    """Refuses labels that do not fit a cross-entropy's outputs.

    Args:
        distiller: The Distiller, compiled.
        y: Labels: all of arrays, else those of a first batch; or `None`.
        whose: For messages: `" of the validation data"`.

    Raises:
        ValueError: A label is text or names no class, or the labels have another width
            than the outputs have classes.
    """
    spec = distiller.output_specs.get().student
    if y is None or spec is None or not distiller.compiled:
        return
    for name, shape in spec.shapes.items():
        place = list(spec.shapes).index(name)
        loss, values = (
            select_for_output(part, name, place) for part in (distiller.loss, y)
        )
        if isinstance(loss, dict | list | tuple) or keras.tree.is_nested(values):
            continue
        if loss is not None and values is not None and len(shape) > 1:
            of = whose if name is None else f"{whose} of {name!r}"
            validate_against_output(to_numpy(values), shape, loss, of)


def labels_of_distilled_output(distiller, y, who, what):
    """The labels of the distilled output.

    Args:
        distiller: The Distiller.
        y: Labels of it, or of several outputs.
        who: Who speaks in messages.
        what: Whose labels they are, for messages: `"the exam"`.

    Raises:
        ValueError: They are missing.
    """
    try:
        return distilled_labels(distiller, y)
    except KeyError as error:
        raise ValueError(
            f"`{who}`: {what} needs the labels of the distilled output, "
            f"{distiller.distilled_output!r}. There are: {error.args[0]}."
        ) from error


def validate_distilled_labels(distiller, values, of, padding=None):
    """Refuses labels that the distilled output cannot give, of either form.

    Args:
        distiller: The Distiller, compiled, its models looked at.
        values: The labels, NumPy; in whatever form the course has its own.
        of: See `fit`.
        padding: An integer that is no label in sequences.

    Raises:
        ValueError: See `labels`.
    """
    shapes, key = (
        distiller.output_specs.get().student.shapes,
        distiller.distilled_output,
    )
    names = list(shapes)
    name = names[0] if len(names) == 1 else logits.select_output(names, key, names)
    shape = shapes[name]
    if padding is not None and len(shape) > 2 and not is_text(values):
        values = np.where(values == padding, 0, values)
    if distiller.output_kinds[0] in (logits.SIGMOID, logits.BINARY):
        loss = keras.losses.BinaryCrossentropy()
    elif values.ndim == len(shape) and values.shape[-1] == shape[-1]:
        loss = keras.losses.CategoricalCrossentropy()
    else:
        course = select_for_output(distiller.loss, name, names.index(name))
        ignored = getattr(course, "ignore_class", None)
        loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=ignored)
    validate_against_output(values, shape, loss, of)


def reject_text_labels(values, of=""):
    """Refuses labels that are words.

    Args:
        values: The labels, NumPy.
        of: See `fit`.

    Raises:
        ValueError: They are.
    """
    if is_text(values) and values.size:
        raise ValueError(
            f"`Distiller`: labels{of} such as {str(values.flat[0])!r} are no numbers. "
            "Number the classes as the teacher does: `np.searchsorted(names, y)` for "
            "sorted names."
        )


def is_text(values):
    """Whether NumPy labels are words and no numbers."""
    return values.dtype.kind in "OSTU"


def has_class_label_shape(values, shape, one_hot=False):
    """Whether labels have a shape in which they can name classes of outputs.

    Args:
        values: The labels, NumPy.
        shape: Of the outputs, `(batch, ..., classes)`.
        one_hot: Whether they may be one-hot.
    """
    if values.ndim == len(shape) - 1:
        return True
    widths = (1, shape[-1]) if one_hot else (1,)
    return values.ndim == len(shape) and values.shape[-1] in widths


def validate_against_output(values, shape, loss, of=""):
    """Refuses labels that do not fit the cross-entropy of one output.

    Args:
        values: The labels, NumPy.
        shape: Of the output, `(batch, ..., classes)`.
        loss: Of the output; others than cross-entropies fit whatever it is.
        of: Whose labels they are, for messages: `" of 'name'"`.

    Raises:
        ValueError: See `labels`.
    """
    kind, classes = canonical_loss_name(loss), shape[-1]
    reject_text_labels(values, of)
    if "crossentropy" not in kind or not values.size or values.dtype.kind not in "iufb":
        return
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise ValueError(f"`Distiller`: labels{of} hold NaN. Leave those samples out.")
    if kind == "sparse_categorical_crossentropy" and not has_class_label_shape(
        values, shape
    ):
        raise ValueError(
            f"`Distiller`: labels{of} of shape {values.shape} do not fit outputs of "
            f"{classes} classes. Give one integer for each choice, or one-hot labels "
            "with as many columns as there are classes."
        )
    if "sparse" in kind:
        ignored = getattr(loss, "ignore_class", None)
        values = values if ignored is None else values[values != ignored]
        if values.size and (values.min() < 0 or values.max() >= classes):
            raise ValueError(
                f"`Distiller`: labels{of} from {values.min()} to {values.max()}, but "
                f"the models have the classes 0 to {classes - 1}. Renumber the labels, "
                "or give the models more classes."
            )
        return
    width = values.shape[-1] if values.ndim == len(shape) else 1
    if width != classes:
        remedy = "a column for each output" if "binary" in kind else "one-hot labels"
        if "binary" not in kind and values.ndim < len(shape):
            remedy += ", or compile with a sparse cross-entropy"
        raise ValueError(
            f"`Distiller`: labels{of} of shape {values.shape} do not fit outputs of "
            f"{classes} classes and the loss {kind!r}. Give {remedy}."
        )
    if "binary" in kind and (values.min() < 0 or values.max() > 1):
        raise ValueError(
            f"`Distiller`: labels{of} from {values.min()} to {values.max()}, but each "
            "output judges between no (0) and yes (1). Renumber the labels, or give "
            "the models an output for each class."
        )
