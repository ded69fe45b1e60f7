"""Losses and metrics that take the student's outputs for what they are not."""

import warnings

import keras
import numpy as np

from keras_dtkd.core import logits
from keras_dtkd.core.arrays import to_numpy
from keras_dtkd.core.compiled_loss import declared_from_logits, select_for_output
from keras_dtkd.core.outputs import output_kind_of
from keras_dtkd.metrics import ExpectedCalibrationError
from keras_dtkd.teachers.forward import run_teacher
from keras_dtkd.teachers.model_teacher import ModelTeacher
from keras_dtkd.teachers.sample_ids import model_inputs

# Probabilities so close to each other that two softmaxes in a row leave them alike.
NEARLY_UNIFORM = 1e-3
OUTPUT_KIND_TEXT = {
    logits.SOFTMAX: "a softmax",
    logits.SIGMOID: "a sigmoid",
    logits.LOGITS: "a linear layer",
}


def warn_from_logits_mismatch(distiller, sample):
    """Warns of a `from_logits` that the student's own layers contradict.

    Args:
        distiller: The Distiller, compiled.
        sample: The `keras_dtkd.preparation.data_peek.Sample`.
    """
    spec = distiller.output_specs.get().student
    if sample.y is None or spec is None:
        return
    shapes = spec.shapes
    student = distiller.student
    for place, name in enumerate(shapes):
        loss, y = (
            select_for_output(part, name, place) for part in (distiller.loss, sample.y)
        )
        head, of = _output_kind(student, name), "" if name is None else f" of {name!r}"
        if not from_logits_contradicts(
            head, declared_from_logits(loss)
        ) or keras.tree.is_nested(y):
            continue
        if not keras_recovers_logits(student, loss, sample, y, name):
            _warn(f"the loss{of}", head)
    for metric in distiller.compile_origin.metrics if len(shapes) == 1 else ():
        if isinstance(metric, ExpectedCalibrationError):
            ((name, shape),) = shapes.items()
            head = _output_kind(student, name)
            if from_logits_contradicts(head, metric.assumes_logits(shape)):
                _warn(f"the metric {metric.name!r}", head)


def _output_kind(student, name):
    if name is None:
        return logits.infer_output_kind(student)
    names = getattr(student, "output_names", None)
    return output_kind_of(student, name, names)


def from_logits_contradicts(head, says):
    """Whether a head and a `from_logits` exclude each other.

    Args:
        head: Of `keras_dtkd.core.logits`, or `None` where it is not known.
        says: `True`, `False`, or anything else where it says nothing.
    """
    if head is None or not isinstance(says, bool):
        return False
    return says != (head in (logits.LOGITS, logits.BINARY))


def keras_recovers_logits(student, loss, sample, y, name=None):
    """Whether Keras goes back to the logits before a softmax or sigmoid by itself.

    It does so under TensorFlow, where nothing (such as a change of dtype) stands
    between them and the loss; there `from_logits=True` does no harm.

    Args:
        student: A built `keras.Model`.
        loss: Its cross-entropy.
        sample: The `keras_dtkd.preparation.data_peek.Sample`.
        y: Those of its labels that belong to the output.
        name: Name or index of the output.
    """
    if not isinstance(loss, keras.losses.Loss):
        return False
    x, y = keras.tree.map_structure(lambda a: a[: sample.batch_size], (sample.x, y))
    x = keras.tree.map_structure(keras.ops.convert_to_tensor, x)
    outputs = run_teacher(ModelTeacher(student), model_inputs(x))
    output = logits.select_output(outputs, name, getattr(student, "output_names", None))
    # The same numbers, without a past.
    plain = keras.ops.convert_to_numpy(output)
    with warnings.catch_warnings():
        # Keras's own, which it gives in the step too.
        warnings.simplefilter("ignore")
        found, as_said = (
            to_numpy(keras.ops.convert_to_numpy(loss(y, p)))
            for p in (output, keras.ops.convert_to_tensor(plain))
        )
    # A softmax takes equal numbers for equal numbers: they do not tell.
    alike = np.ptp(plain.astype("float32"), axis=-1).max() < NEARLY_UNIFORM
    tells = plain.shape[-1] == 1 or not alike
    return not (tells and np.allclose(found, as_said, rtol=1e-5))


def _warn(what, head):
    logits_in = head == logits.LOGITS
    taken, right = ("probabilities", True) if logits_in else ("logits", False)
    by_name = " (as one given by its name does)" if logits_in else ""
    warnings.warn(
        f"`Distiller`: the student ends in {OUTPUT_KIND_TEXT[head]}, and {what} that "
        f"it was compiled with takes its outputs for {taken}{by_name}. Compile with "
        f"`from_logits={right}`.",
        stacklevel=5,
    )
