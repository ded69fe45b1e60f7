"""The total of a training step, and what is logged of it."""

from keras import ops

from keras_dtkd.functional.statistics import agreement
from keras_dtkd.losses.reduction import reduce_for_logs
from keras_dtkd.training.loss_logging import temperature_log_names


def compute_loss_means(losses, steps):
    """The mean of each loss over a batch, by the batch's `StepBuilder`.

    Yields `(name, mean, temperatures)`, the last a `TemperaturePair` or `None`.
    """
    for name, loss in losses.items():
        step, output, global_means = steps.of(loss)
        values, temperatures = loss.compute_with_temperatures(step)
        mean = loss.reduce(values, output, step.sample_weight, global_means)
        yield name, mean, temperatures


def sum_losses(losses, steps, log):
    """`Σ weight · ramp · loss`, float32; `log(name, mean)` is called for all of it."""
    total = ops.zeros((), dtype="float32")
    for name, mean, temperatures in compute_loss_means(losses, steps):
        log(name, mean)
        total = total + losses[name].effective_weight * mean
        keys = temperature_log_names(losses, name)
        if keys and temperatures is not None:
            step, output, _ = steps.of(losses[name])
            for key, temperature in zip(keys, temperatures[:2], strict=True):
                # Of every sample's shape, so that a mask finds its positions.
                zeros = ops.zeros_like(step.student_logits[..., :1])
                log(key, reduce_for_logs((temperature + zeros)[..., 0], output, step))
    step, output, _ = steps()
    if step.student_logits is not None:
        agrees = agreement(step.student_logits, step.teacher_logits)
        log("agreement", reduce_for_logs(agrees, output, step))
    return total
