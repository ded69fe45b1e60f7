"""Losses and metrics that take the student's outputs for what they are not."""

import keras

from keras_dtkd import backend
from keras_dtkd.core import logits
from keras_dtkd.core.compiled_loss import declared_from_logits, select_for_output
from keras_dtkd.core.issue import WARNING, Issue
from keras_dtkd.core.logits import OutputKind
from keras_dtkd.core.output_kind import output_kind_of
from keras_dtkd.metrics import ExpectedCalibrationError

OUTPUT_KIND_TEXT = {
    OutputKind.SOFTMAX: "a softmax",
    OutputKind.SIGMOID: "a sigmoid",
    OutputKind.LOGITS: "a linear layer",
}


def check_from_logits(context):
    """A `from_logits` of loss or metrics that the student's own layers contradict."""
    compiled, student, y = context.compiled, context.student, context.sample.y
    if not context.is_training or compiled is None or y is None:
        return []
    shapes = {} if context.student_spec is None else context.student_spec.shapes
    issues = []
    for index, (name, shape) in enumerate(shapes.items()):
        kind = _output_kind(student, name)
        loss, labels = (select_for_output(v, name, index) for v in (compiled.loss, y))
        if (
            _contradicts(kind, declared_from_logits(loss))
            and not keras.tree.is_nested(labels)
            and not _recovers_logits(student, kind, loss)
        ):
            description = f"the loss{'' if name is None else f' of {name!r}'}"
            issues.append(_mismatch(description, kind))
        for metric in compiled.metrics if len(shapes) == 1 else ():
            if isinstance(metric, ExpectedCalibrationError):
                if _contradicts(kind, metric.assumes_logits(shape)):
                    issues.append(_mismatch(f"the metric {metric.name!r}", kind))
    return issues


def _recovers_logits(student, kind, loss):
    """Whether Keras's loss goes back to the logits behind a softmax or sigmoid.

    It does so under TensorFlow, unless a change of dtype stands in between.
    """
    return (
        backend.backend_name() == "tensorflow"
        and kind not in (OutputKind.LOGITS, OutputKind.BINARY_LOGITS)
        and isinstance(loss, keras.losses.Loss)
        and student.compute_dtype == "float32"
    )


def _output_kind(student, name):
    if name is None:
        return logits.infer_output_kind(student)
    return output_kind_of(student, name, getattr(student, "output_names", None))


def _contradicts(kind, declared):
    """Whether an output kind and a `from_logits` exclude each other."""
    if kind is None or not isinstance(declared, bool):
        return False
    return declared != (kind in (OutputKind.LOGITS, OutputKind.BINARY_LOGITS))


def _mismatch(description, kind):
    is_logits = kind == OutputKind.LOGITS
    code = "logits_as_probabilities" if is_logits else "probabilities_as_logits"
    assumed = "probabilities" if is_logits else "logits"
    by_name = " (as one given by its name does)" if is_logits else ""
    message = (
        f"`Distiller`: the student ends in {OUTPUT_KIND_TEXT[kind]}, and {description} "
        f"that it was compiled with takes its outputs for {assumed}{by_name}."
    )
    hint = f"Compile with `from_logits={is_logits}`."
    return Issue(code, WARNING, message, hint)
