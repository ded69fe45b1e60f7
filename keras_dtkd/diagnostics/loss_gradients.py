"""Value and gradient of each loss, compared with the task loss."""

import dataclasses

import keras
import numpy as np
from keras import ops

from keras_dtkd import backend
from keras_dtkd.core.issue import ERROR, INFO, WARNING, Issue
from keras_dtkd.core.logits import OutputKind
from keras_dtkd.core.masking import attach_mask, get_mask
from keras_dtkd.losses.kd import KD
from keras_dtkd.losses.keras_adapter import KerasDistillationLoss

# A gradient norm this small is none: no loss with a weight in use comes near.
ZERO_GRADIENT = 1e-12
# Teacher and student are equal where KD itself has no larger gradient.
EQUAL_MODELS = 1e-6
# Beyond this ratio, either way, one of two gradients hardly matters.
MAX_GRADIENT_RATIO = 100.0


def measure_losses(losses, batches):
    """Values and gradients of the task loss and of losses by name. See `Report`."""
    statistics: dict = {"losses": {}}
    task = {"value": 0.0, "gradient_norm": 0.0}
    if batches[0].task_loss is not None:
        values, gradients = zip(*map(task_gradient, batches), strict=True)
        task = {"value": float(np.mean(values)), "gradient_norm": mean_norm(gradients)}
        statistics["task"] = task
    for name, loss in losses.items():
        value = float(np.mean([batch.loss_values[name] for batch in batches]))
        weight, norm = float(loss.effective_weight), _gradient_norm(loss, batches)
        measured = {"value": value, "weight": weight}
        if task["value"]:
            measured["to_task"] = weight * value / task["value"]
        if not (_acts_outside_logits(loss) and norm <= ZERO_GRADIENT):
            measured["gradient_norm"] = norm
            if task["gradient_norm"]:
                measured["gradient_to_task"] = weight * norm / task["gradient_norm"]
        statistics["losses"][name] = measured
    return statistics


def loss_gradient(loss, batch):
    """The gradient of a loss's mean in the student's logits, without its weight."""
    key = loss.view, loss.distilled_output
    step, output = batch.steps[key]

    def compute(logits):
        logits = attach_mask(logits, get_mask(step.student_logits))
        outputs = _to_student_outputs(logits, batch, key)
        replaced = dict(student_logits=logits, student_outputs=outputs)
        return loss.reduce(loss.compute(dataclasses.replace(step, **replaced)), output)

    return _value_and_grad(compute, step.student_logits)[1]


def task_gradient(batch):
    """Value of the task loss on a batch, and its gradient in the student's logits."""

    def compute(logits):
        return batch.task_loss(_to_student_outputs(logits, batch, (None, None)))

    return _value_and_grad(compute, batch.steps[None, None][0].student_logits)


def _value_and_grad(function, logits):
    # In a StatelessScope no assignment lasts.
    with keras.StatelessScope():
        value, gradient = backend.value_and_grad(
            lambda z: ops.cast(function(z), "float32"), logits
        )
    return float(value), np.asarray(ops.convert_to_numpy(gradient), "float64")


def _to_student_outputs(logits, batch, key):
    """What the student would have returned for these logits."""
    step, old = batch.steps[key]
    new = _to_output(logits, batch.output_kinds[key[1]], old)
    new = attach_mask(new, get_mask(old))
    return keras.tree.map_structure(
        lambda value: new if value is old else value, step.student_outputs
    )


def _to_output(logits, output_kind, like):
    """The inverse of `keras_dtkd.core.logits.to_logits`."""
    if output_kind == OutputKind.LOGITS:
        return logits
    if output_kind == OutputKind.SOFTMAX:
        return ops.softmax(logits, axis=-1)
    margin = logits[..., 1] - logits[..., 0]
    margin = margin[..., None] if like.shape[-1] == 1 else margin
    return ops.sigmoid(margin) if output_kind == OutputKind.SIGMOID else margin


def mean_norm(gradients):
    """Mean norm of a sample's gradient, over a list of batches."""
    return float(np.mean([np.linalg.norm(g, axis=-1).sum() for g in gradients]))


def _gradient_norm(loss, batches):
    return mean_norm([loss_gradient(loss, batch) for batch in batches])


def check_loss(name, loss, measured, batches, has_labels):
    """A loss that is not finite, without gradient, or out of proportion."""
    value, norm = measured["value"], measured.get("gradient_norm")
    ratio = measured.get("gradient_to_task", 1.0) if measured["weight"] else 1.0
    if not np.isfinite([value, norm or 0.0]).all():
        gradient = "" if norm is None else f" and a gradient of norm {norm:.3g}"
        message = f"`{name}` has the value {value:.3g}{gradient}."
        hint = "Look for a logarithm, root or division at 0, such as `log(softmax)`."
        yield Issue("not_finite", ERROR, message, hint)
    elif norm is None:
        through = "inner layers" if loss.input_gradient is None else "weights"
        through = "boxes" if loss.compares_boxes else through
        message = (
            f"`{name}` acts through the student's {through}, not through its logits."
        )
        hint = "Gradients are taken in the logits: the size of this one is not known."
        yield Issue("not_measured", INFO, message, hint)
    elif norm <= ZERO_GRADIENT and _is_logits_loss(loss):
        # Equal models need no gradient.
        reference = KD(view=loss.view, output=loss.distilled_output)
        if _gradient_norm(reference, batches) > EQUAL_MODELS:
            message = f"`{name}` has no gradient in the student's logits."
            hint = "Look for an `argmax`, `argsort`, comparison or `stop_gradient`."
            if loss.needs_labels and not has_labels:
                hint = "It needs labels, and no sample has one that names a class."
            yield Issue("zero_gradient", WARNING, message, hint)
    elif norm > ZERO_GRADIENT and max(ratio, 1 / ratio) > MAX_GRADIENT_RATIO:
        message = f"The gradient of `{name}` is {ratio:.3g} times the task loss's."
        hint = "If that is not intended, change the loss's `weight`, or `task_weight`."
        yield Issue("unbalanced", INFO, message, hint)


def _is_logits_loss(loss):
    """Whether all that a loss teaches reaches the student through its logits."""
    is_known = isinstance(loss, KerasDistillationLoss) or not loss.takes_step
    return is_known and not _acts_outside_logits(loss)


def _acts_outside_logits(loss):
    has_other_way = bool(loss.student_layers) or loss.compares_boxes
    return has_other_way or loss.input_gradient is not None
