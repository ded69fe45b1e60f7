"""The total of a training step, and what is logged of it."""

from keras import ops

from keras_dtkd.functional.statistics import agreement
from keras_dtkd.losses.reduction import reduce


def compute_loss_means(losses, step_of_view):
    """The mean of each loss over a batch, one loss after the other.

    Args:
        losses: Distillation losses by name.
        step_of_view: From the name of a view, or `None`, to the `Step` on it and the
            student's distilled output, whose mask counts.

    Yields:
        `(name, mean, temperatures)`. The temperatures are a `TemperaturePair`, or
        `None` for a loss that has none.
    """
    for name, loss in losses.items():
        step, output = step_of_view(loss.view)
        values, temperatures = loss.compute_with_temperatures(step)
        mean = loss.reduce(values, output, step.sample_weight)
        yield name, mean, temperatures


def sum_losses(losses, step_of_view, temperature_log_names, log):
    """`Σ weight · ramp · loss`, float32. Everything that is summed is logged.

    Args:
        losses: Distillation losses by name.
        step_of_view: See `compute_loss_means`.
        temperature_log_names: From a loss's name to the names of its temperatures in
            the logs: two, or none.
        log: Gets a name and a mean over the batch.

    Returns:
        A scalar.
    """
    total = ops.zeros((), dtype="float32")
    for name, mean, temperatures in compute_loss_means(losses, step_of_view):
        log(name, mean)
        total = total + losses[name].effective_weight * mean
        keys = temperature_log_names(name)
        if keys and temperatures is not None:
            step, output = step_of_view(losses[name].view)
            for key, temperature in zip(keys, temperatures[:2], strict=True):
                # Of every sample's shape, so that a mask finds its positions.
                zeros = ops.zeros_like(step.student_logits[..., :1])
                log(key, reduce((temperature + zeros)[..., 0], output))
    step, output = step_of_view(None)
    agrees = agreement(step.student_logits, step.teacher_logits)
    log("agreement", reduce(agrees, output))
    return total
