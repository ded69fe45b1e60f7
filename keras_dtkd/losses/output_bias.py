"""Gives a student the offset of its logits that comparisons leave open."""

import keras
import numpy as np

from keras_dtkd.core import arrays, logits
from keras_dtkd.core.masking import get_mask
from keras_dtkd.functional.statistics import MASKED_LOGIT
from keras_dtkd.teachers.forward import run_teacher
from keras_dtkd.teachers.model_teacher import ModelTeacher

CALLER = "`calibrate_output_bias`"
# How well outputs show what was added to their logits.
TOLERANCE = {"float16": 2.0**-8, "bfloat16": 2.0**-5}


def calibrate_output_bias(student, x, teacher_logits, batch_size=32):
    """Adds the mean of `z_t − z_s` to the bias of the student's output layer.

    `losses.CKD` cannot see a vector that all samples' logits share, and leaves it as
    the student started. The stored logits it has learned from tell that vector: no
    further call of the teacher is needed. Where labels were part of the loss, it tends
    to a mixture of both: give `CKD.target(teacher_logits, labels)`.

    The layer is the last one with a `bias` of one number a class, at any depth; a
    softmax, sigmoid or pooling may follow it. Logits are recovered from a softmax's
    probabilities up to a constant, so there the shift sums to 0.

    Args:
        student: A built `keras.Model` with one output. Its bias is changed.
        x: Inputs, arrays, nested as the student takes them.
        teacher_logits: The teacher's logits for them, in their order, of the shape of
            the student's output: `(samples, ..., classes)`. Not probabilities.
        batch_size: Samples given to the student at once.

    Returns:
        What was added, NumPy, `(classes,)`. Masked positions and masked classes (a
        logit of `-1e8` or less) count nowhere.

    Raises:
        TypeError: `x` is no array.
        ValueError: Another number of samples or classes than the student's, several
            outputs, probabilities for logits, no bias that adds to the output. The
            student is then as it was.

    Reference:
        Ours; the lacking offset is that of Wilf et al., "Comparative Knowledge
        Distillation", arXiv 2311.02253.

    Example:

    >>> teacher_logits = teacher.predict(x)  # once, before training
    >>> calibrate_output_bias(student, x, loss.target(teacher_logits, y))
    """
    teacher_logits = arrays.to_numpy(teacher_logits)
    samples = _num_samples(x)
    if samples != len(teacher_logits) or not samples:
        raise ValueError(
            f"{CALLER}: `x` has {samples} samples and `teacher_logits` "
            f"{len(teacher_logits)}. Give the logits of these samples, in their order."
        )
    head, total, count = None, 0.0, 0.0
    for start in range(0, samples, batch_size):
        rows = slice(start, start + batch_size)
        outputs, mask, _ = _outputs(student, arrays.take_rows(x, rows))
        target = np.asarray(teacher_logits[rows], "float32")
        if head is None:
            _check(outputs, target)
            head = _head(student, outputs)
        z = _logits(outputs, head)
        # NaN is no mask: it must show.
        where = mask & ~((z <= MASKED_LOGIT) | (target <= MASKED_LOGIT))
        axes = tuple(range(z.ndim - 1))
        difference = np.where(where, target, 0) - np.where(where, z, 0)
        total = total + difference.sum(axes, dtype="float64")
        count = count + where.sum(axes)
    shift = total / np.maximum(count, 1)
    if head == logits.SOFTMAX:
        shift = np.where(count > 0, shift - shift[count > 0].mean(), 0)
    shift = shift.astype("float32")
    if not np.isfinite(shift).all():
        raise ValueError(
            f"{CALLER}: `teacher_logits` or the student's outputs hold NaN or infinity."
        )
    _apply_shift(student, shift, arrays.take_rows(x, slice(0, batch_size)), head)
    return shift


def _num_samples(x):
    if not arrays.is_arrays(x):
        raise TypeError(
            f"{CALLER}: `x` must be arrays, in the order of `teacher_logits`. Received: "
            f"{type(x).__name__}."
        )
    return arrays.num_samples(x)


def _outputs(student, x):
    """The student's output for a batch, what its mask keeps, `(..., 1)`, its dtype."""
    outputs = run_teacher(ModelTeacher(student), x)
    try:
        outputs = logits.select_output(outputs, None)
    except KeyError as error:
        names = getattr(student, "output_names", None) or error.args[0]
        raise ValueError(
            f"{CALLER}: the student has several outputs: "
            f"{', '.join(map(str, names))}. Give a `keras.Model` of the same inputs "
            "and of that output alone."
        ) from None
    mask = get_mask(outputs)
    dtype = keras.backend.standardize_dtype(outputs.dtype)
    outputs = keras.ops.convert_to_numpy(keras.ops.cast(outputs, "float32"))
    mask = True if mask is None else keras.ops.convert_to_numpy(mask)[..., None]
    return outputs, mask, dtype


def _check(outputs, target):
    if outputs.shape != target.shape:
        raise ValueError(
            f"{CALLER}: for the first samples the student gives the shape "
            f"{outputs.shape}, and `teacher_logits` have {target.shape}. Give logits "
            "of the same classes, the last axis, and of the same positions."
        )
    if logits.look_like_probabilities(target):
        raise ValueError(
            f"{CALLER}: `teacher_logits` look like probabilities: they lie in [0, 1] and "
            "sum to 1. Give logits: `keras_dtkd.core.logits.to_logits(p, 'softmax')`."
        )


def _head(student, outputs):
    told = logits.infer_output_kind(student)
    if told is None and logits.look_like_probabilities(outputs):
        return logits.SOFTMAX
    return told or logits.LOGITS


def _logits(outputs, head):
    z = keras.ops.convert_to_numpy(logits.to_logits(outputs, head))
    if head != logits.SIGMOID:
        return z
    return (z[..., 1] - z[..., 0]).reshape(outputs.shape)


def _apply_shift(student, shift, x, head):
    """Adds the shift where it reaches the outputs, or nowhere."""
    bias = _bias(student, shift.shape)
    outputs, _, dtype = _outputs(student, x)
    before = _logits(outputs, head)
    value = np.array(keras.ops.convert_to_numpy(bias.value))
    bias.assign(value + shift.astype(value.dtype))
    error = _logits(_outputs(student, x)[0], head) - before - shift
    if head == logits.SOFTMAX:
        error = error - error.mean(-1, keepdims=True)
    allowed = TOLERANCE.get(dtype, 1e-4) * (1 + np.abs(before) + np.abs(shift))
    # Of most: a saturated probability shows nothing.
    if np.median(np.abs(error) - allowed) > 0:
        bias.assign(value)
        raise ValueError(
            f"{CALLER}: the bias {bias.path} does not add to the outputs: something "
            "stands between. Give the student an output layer with a bias."
        )


def _bias(student, shape):
    biases = [weight for weight in student.weights if weight.name == "bias"]
    if not biases:
        raise ValueError(
            f"{CALLER}: no layer of the student has a bias. Give its output layer one "
            "(`use_bias=True`)."
        )
    fitting = [bias for bias in biases if tuple(bias.shape) == shape]
    if not fitting:
        raise ValueError(
            f"{CALLER}: the student's last bias, {biases[-1].path}, has the shape "
            f"{tuple(biases[-1].shape)}, and its output {shape[0]} classes. Give "
            "its output layer a bias with one number a class."
        )
    return fitting[-1]
