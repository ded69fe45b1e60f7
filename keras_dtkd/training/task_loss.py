"""The loss on the labels: the compiled one, or the student's own."""

import functools

import keras
from keras import ops

from keras_dtkd import backend
from keras_dtkd.core import arrays
from keras_dtkd.core.columns import get_columns
from keras_dtkd.core.compiled_loss import compute_own_loss
from keras_dtkd.core.masking import get_mask
from keras_dtkd.losses.reduction import has_positions, normalize_positions
from keras_dtkd.teachers.sample_ids import model_inputs
from keras_dtkd.training.run import compute_global_means
from keras_dtkd.training.step import TrainingTargets


def get_labels(y):
    """The labels in what a step is given as `y`, or `None`."""
    return arrays.drop_placeholder(y.labels if isinstance(y, TrainingTargets) else y)


def overrides(student, method):
    """Whether a student's class has its own version of a method of `keras.Model`."""
    return getattr(type(student), method) is not getattr(keras.Model, method)


def is_own(student):
    """Whether the student's class overrides `compute_loss`, which then counts."""
    return overrides(student, "compute_loss")


def compute(distiller, keras_loss, x, y, outputs, sample_weight, training):
    """The loss on the labels alone, float32.

    That of the student's class where it overrides `compute_loss`, with whatever else it
    adds; else the compiled one, without regularizers: `keras_loss` is that of
    `keras.Model`, for the Distiller. In training, distillation losses may change its
    weights.
    """
    if training:
        sample_weight = weights_by_losses(distiller, x, y, sample_weight)
    args = outputs, sample_weight, training
    if is_own(distiller.student):
        own_loss = compute_own_loss(distiller.student, model_inputs(x), y, *args)
        return ops.cast(own_loss, "float32")
    task = ops.cast(compute_regularized(distiller, keras_loss, x, y, *args), "float32")
    if not distiller.losses:
        return task
    # Keras adds them; they count once, and not by the task's weight.
    return task - sum_losses(distiller.losses)


def weights_by_losses(distiller, x, y, sample_weight):
    """The weights that the distillation losses leave to a batch's labels."""
    inputs, columns = model_inputs(x), get_columns(x)
    for loss in distiller.distillation_losses.values():
        sample_weight = loss.task_sample_weight(inputs, columns, y, sample_weight)
    return sample_weight


def compute_regularized(distiller, keras_loss, x, y, outputs, sample_weight, training):
    """As `compute`, with the regularizers that Keras adds."""
    if is_own(distiller.student):
        own_loss = compute(
            distiller, keras_loss, x, y, outputs, sample_weight, training
        )
        # Under JAX the student does not see what its layers add to the loss.
        return own_loss + own_regularizers(distiller)
    outputs = distiller.output_specs.select_labelled(outputs)
    if distiller.compile_origin.source == "default":
        sample_weight = _normalize_positions(distiller, outputs, sample_weight)
    return keras_loss(x, y, outputs, sample_weight, training)


def _normalize_positions(distiller, outputs, sample_weight):
    """Weights with which Keras's mean over all positions is one over valid ones."""
    if sample_weight is None or keras.tree.is_nested(sample_weight):
        return sample_weight
    if not has_positions(sample_weight):
        return sample_weight
    weights = ops.cast(sample_weight, "float32")
    global_means = functools.partial(compute_global_means, distiller, weights)
    # Keras divides by the mean of a mask itself.
    return normalize_positions(weights, get_mask(outputs), global_means)


def own_regularizers(distiller):
    """The losses of layers that the student's own loss does not hold."""
    return sum_losses(distiller.losses) - sum_losses(distiller.student.losses)


def sum_losses(losses):
    """The sum of regularizers and of what layers add to the loss, as Keras adds it."""
    losses = [ops.sum(ops.cast(loss, "float32")) for loss in losses]
    return sum(losses, ops.zeros((), dtype="float32")) / backend.replicas()


def compute_own_metrics(student, x, y, outputs, sample_weight):
    """The results of the student's own `compute_metrics`, if its class has one."""
    if not overrides(student, "compute_metrics"):
        return {}
    return student.compute_metrics(x, y, outputs, sample_weight)


def own_metrics(student):
    """The metrics that the student's own `compute_loss` or `compute_metrics` updates.

    Not its mean of the loss: that is the Distiller's.
    """
    has_own_loss = is_own(student)
    has_own_metrics = overrides(student, "compute_metrics")
    if not has_own_loss and not has_own_metrics:
        return []
    metrics = [metric for metric in student.metrics if metric.name != "loss"]
    if has_own_metrics:
        return metrics
    # The Distiller was compiled with copies of the student's compiled metrics.
    return [metric for metric in metrics if metric.name != "compile_metrics"]
