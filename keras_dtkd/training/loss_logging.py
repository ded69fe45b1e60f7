"""Which means a Distiller logs, and under which names."""

import keras


def temperature_log_names(losses, name):
    """The names under which a loss's temperatures are logged.

    Plain for the first loss that has any, with the loss's name for others.

    Args:
        losses: Distillation losses by name.
        name: Of one of them.

    Returns:
        Two names, the student's first; none for a loss without temperatures.
    """
    with_temperature = [n for n, loss in losses.items() if loss.get_temperatures()]
    if name not in with_temperature:
        return []
    prefix = "" if name == with_temperature[0] else f"{name}_"
    return [f"{prefix}student_temperature", f"{prefix}teacher_temperature"]


def build_trackers(losses, others=()):
    """A `keras.metrics.Mean` for everything that a training step logs.

    Args:
        losses: Distillation losses by name.
        others: Names of further means.

    Returns:
        A dict of metrics by name.
    """
    names = ["task_loss", *losses]
    for name in losses:
        names += temperature_log_names(losses, name)
    names += ["agreement", *others]
    return {name: keras.metrics.Mean(name=name) for name in names}
