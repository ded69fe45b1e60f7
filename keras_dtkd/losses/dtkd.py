"""Dynamic Temperature Knowledge Distillation."""

import keras

from keras_dtkd.core.hyperparameters import Hyperparameter
from keras_dtkd.core.model_pairs import pair_constants
from keras_dtkd.functional.divergences import kl
from keras_dtkd.functional.statistics import soft_log_probs
from keras_dtkd.losses.base import DistillationLoss, LossValues
from keras_dtkd.temperatures.dynamic import Dynamic


@keras.saving.register_keras_serializable("keras_dtkd")
class DTKD(DistillationLoss):
    """Softens each sample for teacher and student at once, to a common sharpness.

    `α · T_s · T_t · KL(softmax(z_t / T_t) ‖ softmax(z_s / T_s))` with the temperatures
    of `Dynamic`, plus `β · τ² · KL(softmax(z_t / τ) ‖ softmax(z_s / τ))`, for each
    sample; the whole grows over the warm-up.

    The defaults are not the published form. Its closed form does not do what its
    derivation says, and its loss has a degenerate minimum that an untrained student
    may fall into (both in `Dynamic`'s page); `rule="exact"` solves the paper's own
    criterion instead. `DTKD.published()` is the authors' form to the letter.

    Args:
        temperature: τ: a positive number, or any `keras_dtkd.temperatures` rule. Set
            it to a number to change it while training runs.
        alpha: Factor α of the term with dynamic temperatures. Not negative.
        beta: Factor β of the term at τ. Not negative.
        rule: See `Dynamic`: `"exact"`, `"max"`, `"centered"` or `"std"`.
        stop_gradient: See `Dynamic`.
        minimum: See `Dynamic`. `"auto"` holds the temperatures of `"exact"` within τ/2
            and 3τ/2. Without that, the curvature for a student of small logits is so
            great that SGD at a usual rate may leave it there for good.
        warmup_epochs: See `DistillationLoss`. `"auto"`, a twelfth of the epochs of
            the `fit`, is the paper's 20 of 240.
        weight: Factor in the total. Not negative.

    Call arguments:
        student_logits: `(batch, ..., classes)`. Raw logits, not probabilities.
        teacher_logits: `(batch, ..., classes)`.
        labels: Not used.
        sample_weight: For a rule that couples the batch, see `DistillationLoss`.

    Returns:
        One value a sample, `(batch, ...)`.

    Raises:
        ValueError: As `Dynamic`; a negative factor.

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
        minimum="auto",
        warmup_epochs="auto",
        weight=1.0,
        **kwargs,
    ):
        super().__init__(weight=weight, warmup_epochs=warmup_epochs, **kwargs)
        self.alpha = alpha
        self.beta = beta
        self._dynamic = Dynamic(temperature, rule, stop_gradient, minimum)

    @classmethod
    def published(
        cls, temperature=4.0, alpha=3.0, beta=1.0, warmup_epochs=20, **kwargs
    ):
        """The authors' form to the letter.

        `rule="max"`, gradient through both temperatures and their weight, no smallest
        temperature, 20 epochs of warm-up. Train long: without a warm-up that
        teaches the student first, it may fall into the degenerate minimum.

        Args:
            temperature: τ.
            alpha: Factor of the dynamic term.
            beta: Factor of the term at τ.
            warmup_epochs: The authors' 20, of 240.
            **kwargs: As the class's, but `rule`, `stop_gradient` and `minimum`.

        Returns:
            A `DTKD`.
        """
        return cls(
            temperature=temperature,
            alpha=alpha,
            beta=beta,
            rule="max",
            stop_gradient=False,
            minimum=None,
            warmup_epochs=warmup_epochs,
            **kwargs,
        )

    @classmethod
    def for_pair(cls, teacher, student, **kwargs):
        """The authors' form with their factors for one of their CIFAR-100 pairs.

        Args:
            teacher: Name of the teacher, `"resnet32x4"`.
            student: Name of the student, `"resnet8x4"`.
            **kwargs: As `DTKD.published`, instead of the pair's.

        Returns:
            A `DTKD`.

        Raises:
            ValueError: No such pair, with the list of the eleven.
        """
        hint = "DTKD.published(alpha=…, beta=…)"
        constants = pair_constants(teacher, student, "DTKD", hint)
        factors = {"alpha": constants.dtkd_alpha, "beta": constants.dtkd_beta}
        return cls.published(**{**factors, **kwargs})

    @property
    def temperature(self):
        """The `Dynamic` rule. Set it to a number to change τ."""
        return self._dynamic

    @temperature.setter
    def temperature(self, value):
        self._dynamic.temperature = value

    def call(
        self,
        student_logits,
        teacher_logits,
        labels=None,
        sample_weight=None,
        return_temperatures=False,
    ):
        """One value a sample; with `return_temperatures`, `LossValues`."""

        def softened_kl(t):
            return t.weight * kl(
                soft_log_probs(teacher_logits, t.teacher),
                soft_log_probs(student_logits, t.student),
            )

        fixed = self._dynamic.temperature(student_logits, teacher_logits, sample_weight)
        dynamic = self._dynamic(student_logits, teacher_logits, base=fixed)
        values = self.hyperparameter("alpha") * softened_kl(
            dynamic
        ) + self.hyperparameter("beta") * softened_kl(fixed)
        return LossValues(values, dynamic) if return_temperatures else values

    def get_config(self):
        """The arguments that make this loss again."""
        dynamic = self._dynamic.get_config()
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "beta": self.beta,
            **{k: dynamic[k] for k in ("temperature", "rule")},
            **{k: dynamic[k] for k in ("stop_gradient", "minimum")},
        }
