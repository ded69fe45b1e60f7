"""Losses and metrics that take the student's outputs for what they are not."""

import keras
import numpy as np

from keras_dtkd.core import logits
from keras_dtkd.core.arrays import to_numpy
from keras_dtkd.core.compiled_loss import declared_from_logits, select_for_output
from keras_dtkd.core.issue import ERROR, WARNING, Issue
from keras_dtkd.core.logits import OutputKind
from keras_dtkd.core.output_kind import output_kind_of
from keras_dtkd.losses.reduction import has_positions
from keras_dtkd.metrics import ExpectedCalibrationError

OUTPUT_KIND_TEXT = {
    OutputKind.SOFTMAX: "a softmax",
    OutputKind.SIGMOID: "a sigmoid",
    OutputKind.LOGITS: "a linear layer",
    OutputKind.BINARY_LOGITS: "a linear layer",
}


def check_from_logits(context):
    """A `from_logits` of loss or metrics that the student's own layers contradict."""
    if not context.is_training or context.compiled is None:
        return []
    issues = [
        _mismatch(f"the loss{'' if name is None else f' of {name!r}'}", kind)
        for name, kind, *_ in contradicting_losses(context)
        if name not in context.recovered_outputs
    ]
    shapes = {} if context.sample.y is None else context.student_spec.shapes
    for metric in context.compiled.metrics if len(shapes) == 1 else ():
        if isinstance(metric, ExpectedCalibrationError):
            ((name, shape),) = shapes.items()
            kind = _output_kind(context.student, name)
            if _contradicts(kind, metric.assumes_logits(shape)):
                issues.append(_mismatch(f"the metric {metric.name!r}", kind))
    return issues


def check_loss_names(context):
    """Distillation losses named like a metric, which they would replace in the logs."""
    names = {
        metric
        if isinstance(metric, str)
        else getattr(metric, "name", None) or getattr(metric, "__name__", None)
        for metric in context.compiled.metrics
    }
    return [
        Issue(
            "name_taken",
            ERROR,
            f"`Distiller`: a distillation loss and a metric are both called {name!r}, "
            "and the logs can hold one.",
            "Give the loss another name: `Distiller(..., {'soft': loss})`.",
        )
        for name in context.losses
        if name in names
    ]


def check_diluted_loss(context):
    """A compiled loss that divides by positions whose weight is 0: padding."""
    compiled, weights = context.compiled, context.sample.sample_weight
    if compiled is None or compiled.is_default or context.sample.y is None:
        return
    is_one = weights is not None and not keras.tree.is_nested(weights)
    if not compiled.task_weight or not is_one or not has_positions(weights):
        return
    loss = keras.losses.get(compiled.loss) if isinstance(compiled.loss, str) else None
    reduction = getattr(compiled.loss, "reduction", None if loss is None else "mean")
    share = np.mean(to_numpy(weights) == 0)
    if reduction not in ("sum_over_batch_size", "mean") or share < 0.01:
        return
    message = (
        f"`Distiller`: {share:.0%} of the positions looked at have the weight 0, and "
        "the compiled loss divides by all of them: the task loss is that much smaller."
    )
    hint = 'Compile with a loss that has `reduction="mean_with_sample_weight"`.'
    yield Issue("diluted_loss", WARNING, message, hint)


def contradicting_losses(context):
    """Losses whose `from_logits` contradicts the student's layers.

    Yields `(name, kind, loss, y)` for each such output: its name, the kind of output
    that its layers show, its loss and its labels.
    """
    if context.sample.y is None or context.student_spec is None:
        return
    parts = context.compiled.loss, context.sample.y
    for index, name in enumerate(context.student_spec.shapes):
        loss, y = (select_for_output(part, name, index) for part in parts)
        kind = _output_kind(context.student, name)
        if kind is None and name is None:
            # A subclass, whose outputs have shown it.
            kind = context.student_spec.output_kind
        declared = declared_from_logits(loss)
        if _contradicts(kind, declared) and not keras.tree.is_nested(y):
            yield name, kind, loss, y


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
    is_logits = kind in (OutputKind.LOGITS, OutputKind.BINARY_LOGITS)
    code = "logits_as_probabilities" if is_logits else "probabilities_as_logits"
    assumed = "probabilities" if is_logits else "logits"
    by_name = " (as one given by its name does)" if is_logits else ""
    message = (
        f"`Distiller`: the student ends in {OUTPUT_KIND_TEXT[kind]}, and {description} "
        f"that it was compiled with takes its outputs for {assumed}{by_name}."
    )
    hint = f"Compile with `from_logits={is_logits}`."
    return Issue(code, WARNING, message, hint)
