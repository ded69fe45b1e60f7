"""Calibration of an output bias that comparisons of samples do not determine."""

import keras
import numpy as np

from keras_dtkd.core import arrays, logits
from keras_dtkd.core.logits import OutputKind
from keras_dtkd.core.masking import get_mask
from keras_dtkd.functional.statistics import MASKED_LOGIT
from keras_dtkd.teachers.forward import run_teacher
from keras_dtkd.teachers.model_teacher import ModelTeacher

CALLER = "`calibrate_output_bias`"
# Relative error of a shift of the logits, as measured from outputs of this dtype.
TOLERANCE = {"float16": 2.0**-8, "bfloat16": 2.0**-5}


def calibrate_output_bias(student, x, teacher_logits, batch_size=32):
    """Adds the mean of `z_t − z_s` to the bias of the student's output layer.

    `losses.CKD` does not depend on a vector that is common to all samples' logits, so
    training leaves that vector at its initial value. The teacher logits of the training
    data determine it: no further call of the teacher is needed. Where labels were part
    of the loss, the optimum is a mixture of both: pass
    `CKD.optimal_logits(teacher_logits, labels)`.

    The output layer is the last one with a `bias` of one number per class, at any
    depth; a softmax, sigmoid or pooling may follow it. Logits are recovered from the
    probabilities of a softmax up to a constant, so there the shift sums to 0.

    Args:
        student: A built `keras.Model` with one output. Its bias is changed.
        x: Input arrays, in the student's input structure.
        teacher_logits: The teacher's logits for `x`, in the same order, of the shape of
            the student's output: `(samples, ..., classes)`. Not probabilities.
        batch_size: Number of samples per forward pass of the student.

    Returns:
        The vector that was added, NumPy, `(classes,)`. Masked positions and masked
        classes (a logit of `-1e8` or less) are ignored.

    Raises:
        TypeError: `x` is not arrays.
        ValueError: Another number of samples or classes than the student's, several
            outputs, probabilities instead of logits, no bias that adds to the output.
            The student is then unchanged.

    Reference:
        Ours; see `losses.CKD` for the offset that its paper leaves open.

    Example:

    >>> teacher_logits = teacher.predict(x)  # once, before training
    >>> calibrate_output_bias(student, x, loss.optimal_logits(teacher_logits, y))
    """
    teacher_logits = arrays.to_numpy(teacher_logits)
    if not arrays.is_arrays(x):
        raise TypeError(
            f"{CALLER}: `x` must be arrays, in the order of `teacher_logits`. "
            f"Received: {type(x).__name__}."
        )
    samples = arrays.num_samples(x)
    if samples != len(teacher_logits) or not samples:
        raise ValueError(
            f"{CALLER}: `x` has {samples} samples and `teacher_logits` "
            f"{len(teacher_logits)}. Pass the logits of these samples, in their order."
        )
    output_kind, total, count = None, 0.0, 0
    for start in range(0, samples, batch_size):
        batch = slice(start, start + batch_size)
        outputs, mask, dtype = _predict(student, arrays.take_rows(x, batch))
        target = arrays.to_numpy(teacher_logits[batch]).astype("float32")
        if output_kind is None:
            _validate_target(outputs, target)
            output_kind = logits.infer_output_kind(student)
            if output_kind is None:
                is_softmax = logits.look_like_probabilities(outputs)
                output_kind = OutputKind.SOFTMAX if is_softmax else OutputKind.LOGITS
            before = _logits(outputs, output_kind)
        z = _logits(outputs, output_kind)
        # NaN is not a mask: the error below must report it.
        where = mask & ~((z <= MASKED_LOGIT) | (target <= MASKED_LOGIT))
        axes = tuple(range(z.ndim - 1))
        difference = np.where(where, target, 0) - np.where(where, z, 0)
        total = total + difference.sum(axes, dtype="float64")
        count = count + where.sum(axes)
    shift = total / np.maximum(count, 1)
    if output_kind == OutputKind.SOFTMAX:
        shift = np.where(count > 0, shift - shift[count > 0].mean(), 0)
    shift = shift.astype("float32")
    if not np.isfinite(shift).all():
        raise ValueError(
            f"{CALLER}: `teacher_logits` or the student's outputs contain NaN or "
            "infinity."
        )
    bias = _output_bias(student, shift.shape)
    value = np.array(keras.ops.convert_to_numpy(bias))
    bias.assign(value + shift.astype(value.dtype))
    outputs, _, _ = _predict(student, arrays.take_rows(x, slice(batch_size)))
    error = _logits(outputs, output_kind) - before - shift
    if output_kind == OutputKind.SOFTMAX:
        error = error - error.mean(-1, keepdims=True)
    allowed = TOLERANCE.get(dtype, 1e-4) * (1 + np.abs(before) + np.abs(shift))
    # The median, because saturated probabilities do not change.
    if np.median(np.abs(error) - allowed) > 0:
        bias.assign(value)
        raise ValueError(
            f"{CALLER}: the bias {bias.path} does not add to the outputs: other layers "
            "follow it. Give the student an output layer with a bias."
        )
    return shift


def _validate_target(outputs, target):
    """The teacher's logits of the first batch."""
    if outputs.shape != target.shape:
        raise ValueError(
            f"{CALLER}: of the first batch, the student's output has the shape "
            f"{outputs.shape}, and `teacher_logits` have {target.shape}. Pass logits "
            "of the same classes, the last axis, and of the same positions."
        )
    if logits.look_like_probabilities(target):
        raise ValueError(
            f"{CALLER}: `teacher_logits` look like probabilities: they lie in [0, 1] "
            "and sum to 1. Pass logits: "
            "`keras_dtkd.core.logits.to_logits(p, 'softmax')`."
        )


def _predict(student, x):
    """The student's output for a batch, its mask, `(..., 1)`, and its dtype."""
    output = run_teacher(ModelTeacher(student), x)
    try:
        output = logits.select_output(output, None)
    except KeyError as error:
        names = getattr(student, "output_names", None) or error.args[0]
        raise ValueError(
            f"{CALLER}: the student has several outputs: "
            f"{', '.join(map(str, names))}. Pass a `keras.Model` with the same inputs "
            "and a single output."
        ) from None
    mask = get_mask(output)
    mask = True if mask is None else keras.ops.convert_to_numpy(mask)[..., None]
    dtype = keras.backend.standardize_dtype(output.dtype)
    return keras.ops.convert_to_numpy(keras.ops.cast(output, "float32")), mask, dtype


def _logits(outputs, output_kind):
    z = keras.ops.convert_to_numpy(logits.to_logits(outputs, output_kind))
    if output_kind != OutputKind.SIGMOID:
        return z
    return (z[..., 1] - z[..., 0]).reshape(outputs.shape)


def _output_bias(student, shape):
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
            "its output layer a bias with one number per class."
        )
    return fitting[-1]
