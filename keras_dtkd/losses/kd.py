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
        temperature: A positive number, or any `keras_dtkd.temperatures.Temperature`.
            Set it to a number to change it during training.
        divergence: `"kl"` (of the student from the teacher), `"reverse_kl"` or `"jsd"`.
        weight: Factor of this loss in the total. Not negative.
        warmup_epochs: See `DistillationLoss`.

    Call arguments:
        student_logits: `(batch, ..., classes)`.
        teacher_logits: `(batch, ..., classes)`.
        labels: Unused.
        sample_weight: For a temperature that couples the batch, see
            `DistillationLoss`.

    Returns:
        One value per sample, in nats times the temperature's weight, of shape
        `(batch, ...)`.

    Raises:
        ValueError: A temperature not above 0, an unknown divergence, a negative weight.

    Reference:
        Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network",
        arXiv 1503.02531. Their T² is the temperature's weight. The paper mixes with the
        labels' cross-entropy as (1 − λ, λ); here both keep their own weight.

    Example:

    >>> Distiller(teacher, student, KD(temperature=4.0)).fit(x, y)
    """

    def __init__(
        self, temperature=4.0, divergence="kl", weight=1.0, warmup_epochs=0, **kwargs
    ):
        super().__init__(
            temperature, weight=weight, warmup_epochs=warmup_epochs, **kwargs
        )
        self._divergence = divergences.get(divergence)
        self.divergence = divergence

    def compute_values(
        self, student_logits, teacher_logits, temperatures, labels, sample_weight
    ):
        return temperatures.weight * self._divergence(
            soft_log_probs(teacher_logits, temperatures.teacher),
            soft_log_probs(student_logits, temperatures.student),
        )
