"""Labels of any format as one-hot vectors or class probabilities."""

import keras
from keras import ops


def one_hot(labels, logits):
    """One-hot labels that fit the logits.

    Args:
        labels: Integers, `(batch, ...)` or `(batch, ..., 1)`; or one number per class,
            `(batch, ..., classes)`, of which the largest is the label. For pairs of
            logits `(..., labels, 2)`, 0 or 1 for each label, `(..., labels)`.
        logits: `(batch, ..., classes)`.

    Returns:
        float32 of the logits' shape. Zeros for a missing label: an integer that is not
        a class, such as -1, or a sample without a positive number.

    Raises:
        ValueError: The shapes do not fit.

    Example:

    >>> one_hot(ops.array([2, 0, -1]), ops.zeros((3, 3)))
    [[0, 0, 1], [1, 0, 0], [0, 0, 0]]
    """
    classes = logits.shape[-1]
    labels = ops.convert_to_tensor(labels)
    rank = len(labels.shape)
    if rank == len(logits.shape) and labels.shape[-1] == classes:
        labels = ops.cast(labels, "float32")
        has_label = ops.max(labels, axis=-1) > 0
        labels = ops.where(has_label, ops.argmax(labels, axis=-1), -1)
    elif rank == len(logits.shape) and labels.shape[-1] == 1:
        labels = ops.squeeze(labels, axis=-1)
    elif rank != len(logits.shape) - 1:
        raise ValueError(
            f"Labels of shape {tuple(labels.shape)} do not fit logits of shape "
            f"{tuple(logits.shape)}. Pass integers, or one number for each class."
        )
    labels = ops.cast(labels, "int32")[..., None]
    return ops.cast(ops.equal(labels, ops.arange(classes, dtype="int32")), "float32")


def to_class_probs(labels, logits):
    """Labels as a target of the cross-entropy. Soft labels stay soft.

    Arguments, result and error are those of `one_hot`, but one number per class is a
    probability, and for pairs of logits a number from 0 to 1 is that of the second
    class.

    Example:

    >>> to_class_probs(ops.array([[0.3, 0.7, 0.0]]), ops.zeros((1, 3)))
    [[0.3, 0.7, 0.0]]
    """
    labels, classes = ops.convert_to_tensor(labels), logits.shape[-1]
    rank = len(labels.shape)
    if rank == len(logits.shape) and labels.shape[-1] == classes:
        return ops.maximum(ops.cast(labels, "float32"), 0.0)
    floats = "float" in keras.backend.standardize_dtype(labels.dtype)
    if rank == len(logits.shape) - 1 and classes == 2 and floats:
        labels = ops.cast(labels, "float32")
        is_valid = ops.logical_and(labels >= 0, labels <= 1)[..., None]
        return ops.where(is_valid, ops.stack([1.0 - labels, labels], axis=-1), 0.0)
    return one_hot(labels, logits)
