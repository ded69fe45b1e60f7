"""Which means a Distiller logs, and under which names."""

import keras

from keras_dtkd.losses.reduction import undo_replica_scaling
from keras_dtkd.temperatures import Constant


def temperature_log_names(losses, name):
    """The names under which a loss's temperatures are logged, the student's first.

    Plain for the first loss that has any, with the loss's name for others. None for a
    loss without temperatures, or with constant ones alone.
    """
    with_temperature = [name for name in losses if _has_varying(losses[name])]
    if name not in with_temperature:
        return []
    prefix = "" if name == with_temperature[0] else f"{name}_"
    return [f"{prefix}student_temperature", f"{prefix}teacher_temperature"]


def _has_varying(loss):
    return any(not isinstance(t, Constant) for t in loss.get_temperatures())


def list_tracker_names(losses, others=()):
    """The names of everything that a training step logs.

    `losses` are the distillation losses by name, `others` names of further means.
    """
    names = ["task_loss", *losses]
    for name in losses:
        names += temperature_log_names(losses, name)
    return [*names, "agreement", *others]


def build_trackers(names):
    """A `keras.metrics.Mean` for each name."""
    return {name: keras.metrics.Mean(name=name) for name in names}


def update(trackers, batch_size, name, value):
    """Adds the mean of a loss over a batch to what is logged.

    It is weighted as Keras weights `loss`: a short last batch counts less.
    """
    trackers[name].update_state(undo_replica_scaling(value), sample_weight=batch_size)


def update_rollout(distiller, targets):
    """Adds what a rollout generated to what is logged."""
    if targets.rollout is not None:
        result = targets.rollout
        distiller.rollout_statistics.update_state(result.generated, result.accepted)


def compute_results(distiller, has_labels):
    """The results of a Distiller's metrics that were updated, by name."""
    is_training = not distiller.run_context.is_evaluating
    uses_teacher = distiller.evaluate_distillation or is_training
    has_task = has_labels and distiller.has_task_loss
    # Metrics need logits, which then are nowhere.
    is_chunked = distiller.chunk_size is not None and uses_teacher
    results: dict = {}
    with distiller.backend_session.all_reduced_metrics(
        lambda: distiller.metrics_variables, is_training
    ):
        for metric in distiller.metrics:
            if distiller.loss_trackers.get(metric.name) is metric:
                is_updated = uses_teacher and (has_task or metric.name != "task_loss")
                if metric.name == "agreement":
                    has_classes = distiller.output_specs.has_classes
                    is_updated = uses_teacher and has_classes and not is_chunked
            elif metric is getattr(distiller, "rollout_statistics", None):
                is_updated = is_training
            elif metric.name == "loss":
                is_updated = uses_teacher or has_task
            else:
                is_updated = has_labels and not is_chunked
            # Keras makes the compiled metrics with the first labels.
            if is_updated and getattr(metric, "built", True):
                result = metric.result()
                is_dict = isinstance(result, dict)
                results.update(result if is_dict else {metric.name: result})
    return results
