"""Losses and metrics that take the student's outputs for what they are not."""

import warnings

import keras
import numpy as np

from keras_dtkd import backend, logits, rows, teachers
from keras_dtkd.compiled_losses import from_logits, of_output
from keras_dtkd.data import to_numpy
from keras_dtkd.metrics import ExpectedCalibrationError
from keras_dtkd.outputs import head_of_output

# Probabilities so close to each other that two softmaxes in a row leave them alike.
ALIKE = 1e-3
ENDS = {
    logits.SOFTMAX: "a softmax",
    logits.SIGMOID: "a sigmoid",
    logits.LOGITS: "a linear layer",
}


def fits_the_head(distiller, sample):
    """Warns of a `from_logits` that the student's own layers contradict.

    Args:
        distiller: The Distiller, compiled.
        sample: The `keras_dtkd.data.Sample`.
    """
    shapes = distiller.held.student_shapes
    if sample.y is None or shapes is None:
        return
    student = distiller.student
    for place, name in enumerate(shapes):
        loss, y = (of_output(part, name, place) for part in (distiller.loss, sample.y))
        head, of = _head(student, name), "" if name is None else f" of {name!r}"
        if not contradicts(head, from_logits(loss)) or keras.tree.is_nested(y):
            continue
        if not undone(student, loss, sample, y, name):
            _warn(f"the loss{of}", head)
    for metric in distiller.held.metrics if len(shapes) == 1 else ():
        if isinstance(metric, ExpectedCalibrationError):
            ((name, shape),) = shapes.items()
            head = _head(student, name)
            if contradicts(head, metric.takes_for_logits(shape)):
                _warn(f"the metric {metric.name!r}", head)


def _head(student, name):
    if name is None:
        return logits.head_by_layers(student)
    names = getattr(student, "output_names", None)
    return head_of_output(student, name, names)


def contradicts(head, says):
    """Whether a head and a `from_logits` exclude each other.

    Args:
        head: Of `keras_dtkd.logits`, or `None` where it is not known.
        says: `True`, `False`, or anything else where it says nothing.
    """
    if head is None or not isinstance(says, bool):
        return False
    return says != (head in (logits.LOGITS, logits.BINARY))


def undone(student, loss, sample, y, name=None):
    """Whether Keras goes back to the logits before a softmax or sigmoid by itself.

    It does so under TensorFlow, where nothing (such as a change of dtype) stands
    between them and the loss; there `from_logits=True` does no harm.

    Args:
        student: A built `keras.Model`.
        loss: Its cross-entropy.
        sample: The `keras_dtkd.data.Sample`.
        y: Those of its labels that belong to the output.
        name: Name or index of the output.
    """
    if not isinstance(loss, keras.losses.Loss):
        return False
    x, y = keras.tree.map_structure(lambda a: a[: sample.batch], (sample.x, y))
    x = keras.tree.map_structure(keras.ops.convert_to_tensor, x)
    outputs = backend.hear(teachers.Live(student), rows.inputs(x))
    output = logits.pick(outputs, name, getattr(student, "output_names", None))
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
    alike = np.ptp(plain.astype("float32"), axis=-1).max() < ALIKE
    tells = plain.shape[-1] == 1 or not alike
    return not (tells and np.allclose(found, as_said, rtol=1e-5))


def _warn(what, head):
    logits_in = head == logits.LOGITS
    taken, right = ("probabilities", True) if logits_in else ("logits", False)
    by_name = " (as one given by its name does)" if logits_in else ""
    warnings.warn(
        f"`Distiller`: the student ends in {ENDS[head]}, and {what} that it was "
        f"compiled with takes its outputs for {taken}{by_name}. Compile with "
        f"`from_logits={right}`.",
        stacklevel=5,
    )
