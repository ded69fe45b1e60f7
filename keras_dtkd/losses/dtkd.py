"""Dynamic Temperature Knowledge Distillation."""

import keras

from keras_dtkd.core.hyperparameters import Hyperparameter
from keras_dtkd.core.model_pairs import pair_constants
from keras_dtkd.functional.divergences import kl
from keras_dtkd.functional.statistics import soft_log_probs
from keras_dtkd.losses.base import LossValues
from keras_dtkd.losses.temperature_loss import TemperatureLoss
from keras_dtkd.temperatures.dynamic import Dynamic


@keras.saving.register_keras_serializable("keras_dtkd")
class DTKD(TemperatureLoss):
    """Softens teacher and student to a common sharpness, sample by sample.

    `α · T_s · T_t · KL(softmax(z_t / T_t) ‖ softmax(z_s / T_s))` with the temperatures
    of `Dynamic`, plus `β · τ² · KL(softmax(z_t / τ) ‖ softmax(z_s / τ))`, for each
    sample. The sum grows over the warm-up.

    The defaults are not the published form. The published closed form does not solve
    the criterion it is derived from, and the published loss has a degenerate minimum
    that an untrained student may reach (see `Dynamic` for both); `rule="exact"` solves
    the paper's criterion instead. `DTKD.published()` is the authors' exact form.

    Args:
        temperature: τ: a positive number or a `Temperature`, see `TemperatureLoss`.
        alpha: Factor α of the term with dynamic temperatures. Not negative.
        beta: Factor β of the term at τ. Not negative.
        rule: See `Dynamic`: `"exact"`, `"max"`, `"centered"` or `"std"`.
        stop_gradient: See `Dynamic`.
        min_temperature: See `Dynamic`. `"auto"` keeps the temperatures of `"exact"`
            between τ/2 and 3τ/2. Without it, the curvature for a student with small
            logits is so high that SGD at a usual learning rate may never recover.
        warmup_epochs: See `DistillationLoss`. `"auto"`, a twelfth of the epochs of
            the `fit`, is the authors' 20 of 240.
        **kwargs: `weight` and more, see `DistillationLoss`.

    Call arguments:
        student_logits, teacher_logits: `(batch, ..., classes)`, raw logits.

    Returns:
        One value per sample, `(batch, ...)`.

    Raises:
        ValueError: See `Dynamic`; a negative factor.

    Reference:
        Wei and Bai, "Dynamic Temperature Knowledge Distillation", arXiv 2404.12711,
        equations 2 to 8; the warm-up is in the authors' code, not in the paper.

    Example:

    >>> Distiller(teacher, student, DTKD(alpha=3.0, beta=1.0)).fit(x, y, epochs=60)
    """

    alpha = Hyperparameter(minimum=0.0)
    beta = Hyperparameter(minimum=0.0)

    def __init__(
        self,
        temperature=4.0,
        alpha=3.0,
        beta=1.0,
        rule="exact",
        stop_gradient=None,
        min_temperature="auto",
        warmup_epochs="auto",
        **kwargs,
    ):
        dynamic = Dynamic(temperature, rule, stop_gradient, min_temperature)
        super().__init__(dynamic, warmup_epochs=warmup_epochs, **kwargs)
        self.alpha = alpha
        self.beta = beta

    @classmethod
    def published(
        cls, temperature=4.0, alpha=3.0, beta=1.0, warmup_epochs=20, **kwargs
    ):
        """The authors' exact form.

        `rule="max"`, gradient through both temperatures and their weight, no lower
        bound of the temperatures. Train long: with a warm-up too short for the student
        to learn, it may reach the degenerate minimum. Takes the other arguments of the
        class; the authors' warm-up is 20 of 240 epochs.
        """
        return cls(
            temperature=temperature,
            alpha=alpha,
            beta=beta,
            rule="max",
            stop_gradient=False,
            min_temperature=None,
            warmup_epochs=warmup_epochs,
            **kwargs,
        )

    @classmethod
    def for_pair(cls, teacher, student, **kwargs):
        """The authors' exact form with their factors for one of their CIFAR-100 pairs.

        Args:
            teacher: Name of the teacher, such as `"resnet32x4"`.
            student: Name of the student, such as `"resnet8x4"`.
            **kwargs: Arguments of `DTKD.published`, which override the pair's.

        Raises:
            ValueError: Unknown pair. The message lists the eleven pairs.
        """
        hint = "DTKD.published(alpha=…, beta=…)"
        constants = pair_constants(teacher, student, "DTKD", hint)
        factors = {"alpha": constants.dtkd_alpha, "beta": constants.dtkd_beta}
        return cls.published(**{**factors, **kwargs})

    def compute_loss_values(
        self, student_logits, teacher_logits, labels, sample_weight
    ):
        def weighted_kl(t):
            return t.weight * kl(
                soft_log_probs(teacher_logits, t.teacher),
                soft_log_probs(student_logits, t.student),
            )

        tau = self._temperature.temperature
        fixed = tau(student_logits, teacher_logits, sample_weight)
        dynamic = self._temperature(student_logits, teacher_logits, base=fixed)
        alpha, beta = self.hyperparameter("alpha"), self.hyperparameter("beta")
        return LossValues(
            alpha * weighted_kl(dynamic) + beta * weighted_kl(fixed), dynamic
        )

    def get_config(self):
        dynamic = self._temperature.get_config()
        names = "temperature", "rule", "stop_gradient", "min_temperature"
        return {**super().get_config(), **{name: dynamic[name] for name in names}}
