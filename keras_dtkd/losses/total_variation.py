"""Total variation distance between student and teacher."""

import keras

from keras_dtkd.functional import divergences
from keras_dtkd.functional.statistics import soft_log_probs
from keras_dtkd.losses.temperature_loss import TemperatureLoss


@keras.saving.register_keras_serializable("keras_dtkd")
class TotalVariation(TemperatureLoss):
    """Minimizes the total variation distance between teacher and student.

    `w · ½ Σ |softmax(z_t / T_t) − softmax(z_s / T_s)|` for each sample, with the
    temperatures and the weight w of `temperature`. At the default T = 1 this is
    the distance itself, from 0 to 1: the share of tokens that speculative decoding
    rejects.

    Its gradient is bounded however far apart the models are, and does not vanish as
    they approach each other: it jumps where the sign of a class's difference changes.
    At a constant T it has a size of `1 / T`, which the weight T² turns into T: where T
    is high, lower `weight`.

    Args:
        temperature: A positive number or a `Temperature`, see `TemperatureLoss`.
        **kwargs: `weight`, `warmup_epochs` and more, see `DistillationLoss`.

    Call arguments:
        student_logits, teacher_logits: `(batch, ..., classes)`.

    Returns:
        One value per sample, times the temperature's weight, of shape `(batch, ...)`.

    Raises:
        ValueError: A temperature not above 0, a negative weight.

    Example:

    >>> Distiller(teacher, student, TotalVariation()).fit(x, y)
    """

    def __init__(self, temperature=1.0, **kwargs):
        super().__init__(temperature, **kwargs)

    def compute_values(
        self, student_logits, teacher_logits, temperatures, labels, sample_weight
    ):
        return temperatures.weight * divergences.total_variation(
            soft_log_probs(teacher_logits, temperatures.teacher),
            soft_log_probs(student_logits, temperatures.student),
        )
