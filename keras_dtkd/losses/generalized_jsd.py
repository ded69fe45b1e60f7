"""The divergences between forward and reverse KL, as GKD has them."""

import numbers

import keras

from keras_dtkd.functional import divergences
from keras_dtkd.functional.statistics import soft_log_probs
from keras_dtkd.losses.temperature_loss import TemperatureLoss


@keras.saving.register_keras_serializable("keras_dtkd")
class GeneralizedJSD(TemperatureLoss):
    """Matches both models' softened distributions to a mixture of the two.

    With `p = softmax(z_t / T_t)`, `q = softmax(z_s / T_s)`, `m = β p + (1 − β) q` and
    the weight w that the rule gives (T² for a constant T), for each sample:

    - `convention="gkd"`: `w · (β KL(p ‖ m) + (1 − β) KL(q ‖ m))`, but `w · KL(p ‖ q)`
      at β = 0 and `w · KL(q ‖ p)` at β = 1. The formula itself falls to 0 towards
      both ends (as β `KL(p ‖ q)` at the first), so it jumps at them: β = 0.99 teaches
      next to nothing, β = 1 is all of the reverse KL.
    - `convention="continuous"`: `w · ((1 − β) KL(p ‖ m) + β KL(q ‖ m))`, from
      `KL(p ‖ q)` at β = 0 to `KL(q ‖ p)` at β = 1 without a jump.

    At β = ½ both are `KD(divergence="jsd")`.

    Args:
        beta: β, from 0 to 1: from covering the teacher's modes to seeking one. Fixed,
            since the ends have formulas of their own.
        temperature: A positive number, or any `keras_dtkd.temperatures` rule. Set it
            to a number to change it while training runs.
        convention: `"gkd"` or `"continuous"`.
        weight: Factor in the total. Not negative.
        warmup_epochs: See `DistillationLoss`.

    Call arguments:
        student_logits: `(batch, ..., classes)`.
        teacher_logits: `(batch, ..., classes)`.
        labels: Not used.
        sample_weight: For a rule that couples the batch, see `DistillationLoss`.

    Returns:
        One value a sample, in nats times the rule's weight, shape `(batch, ...)`.

    Raises:
        ValueError: `beta` is not in [0, 1], an unknown convention, a temperature not
            above 0, a negative weight.

    Reference:
        Agarwal et al., "On-Policy Distillation of Language Models", arXiv 2306.13649,
        equation 1. The ends, and temperature 1 whatever the sampling's, are those of
        TRL's `GKDTrainer`. The mixture of the second convention is ours; ms-swift
        exchanges the weights likewise.

    Example:

    >>> Distiller(teacher, student, GeneralizedJSD(beta=0.1)).fit(x, y)
    """

    def __init__(
        self,
        beta=0.5,
        temperature=1.0,
        convention="gkd",
        weight=1.0,
        warmup_epochs=0,
        **kwargs,
    ):
        super().__init__(
            temperature, weight=weight, warmup_epochs=warmup_epochs, **kwargs
        )
        if not isinstance(beta, numbers.Real) or not 0 <= float(beta) <= 1:
            raise ValueError(
                "`GeneralizedJSD`: `beta` must be a number from 0 to 1. Received: "
                f"beta={beta!r}."
            )
        if convention not in divergences.CONVENTIONS:
            raise ValueError(
                "`GeneralizedJSD`: unknown convention. Received: "
                f"convention={convention!r}. Known: "
                f"{', '.join(map(repr, divergences.CONVENTIONS))}."
            )
        self.beta = float(beta)
        self.convention = convention

    def compute_values(
        self, student_logits, teacher_logits, temperatures, labels, sample_weight
    ):
        """One value a sample."""
        return temperatures.weight * divergences.generalized_jsd(
            soft_log_probs(teacher_logits, temperatures.teacher),
            soft_log_probs(student_logits, temperatures.student),
            self.beta,
            self.convention,
        )

    def get_config(self):
        """The arguments that make this loss again."""
        return {
            **super().get_config(),
            "beta": self.beta,
            "convention": self.convention,
        }
