"""Knowledge distillation by Hinton, Vinyals and Dean."""

import keras

from keras_dtkd.functional import divergences
from keras_dtkd.functional.statistics import soft_log_probs
from keras_dtkd.losses.temperature_loss import TemperatureLoss


@keras.saving.register_keras_serializable("keras_dtkd")
class KD(TemperatureLoss):
    """Matches the student's softened distribution to the teacher's.

    `w · D(softmax(z_t / T_t) ‖ softmax(z_s / T_s))` for each sample, with the
    temperatures and the weight `w` of `temperature` (T² for a constant T).

    Args:
        temperature: A positive number or a `Temperature`, see `TemperatureLoss`.
        divergence: `"kl"` (of the student from the teacher), `"reverse_kl"` or `"jsd"`.
        **kwargs: `weight`, `warmup_epochs` and more, see `DistillationLoss`.

    Call arguments:
        student_logits, teacher_logits: `(batch, ..., classes)`.

    Returns:
        One value per sample, `(batch, ...)`, in nats times the temperature's weight.

    Raises:
        ValueError: A temperature not above 0, an unknown divergence, a negative weight.

    Reference:
        Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network",
        arXiv 1503.02531. Their T² is the temperature's weight. The paper mixes with the
        labels' cross-entropy as (1 − λ, λ); here both keep their own weight.

    Example:

    >>> Distiller(teacher, student, KD(temperature=4.0)).fit(x, y)
    """

    def __init__(self, temperature=4.0, divergence="kl", **kwargs):
        super().__init__(temperature, **kwargs)
        divergences.get(divergence)
        self.divergence = divergence

    def chunked_arguments(self):
        return self.with_temperature(divergence=self.divergence)

    def compute_values(
        self, student_logits, teacher_logits, temperatures, labels, sample_weight
    ):
        # It may have been changed between two runs.
        divergence = divergences.get(self.divergence)
        return temperatures.weight * divergence(
            soft_log_probs(teacher_logits, temperatures.teacher),
            soft_log_probs(student_logits, temperatures.student),
        )
