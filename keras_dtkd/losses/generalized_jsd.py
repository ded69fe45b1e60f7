"""GKD's divergences between forward and reverse KL."""

import keras

from keras_dtkd.core.arguments import check_choice, check_in_range
from keras_dtkd.functional import divergences
from keras_dtkd.functional.statistics import soft_log_probs
from keras_dtkd.losses.temperature_loss import TemperatureLoss


@keras.saving.register_keras_serializable("keras_dtkd")
class GeneralizedJSD(TemperatureLoss):
    """Matches both models' softened distributions to a mixture of the two.

    With `p = softmax(z_t / T_t)`, `q = softmax(z_s / T_s)`, `m = β p + (1 − β) q` and
    the weight w of `temperature` (T² for a constant T), for each sample:

    - `convention="gkd"`: `w · (β KL(p ‖ m) + (1 − β) KL(q ‖ m))`, but `w · KL(p ‖ q)`
      at β = 0 and `w · KL(q ‖ p)` at β = 1. The formula itself falls to 0 towards
      both ends (as β `KL(p ‖ q)` near β = 0), so it jumps there: at β = 0.99 the
      gradient is nearly 0, at β = 1 it is that of the reverse KL.
    - `convention="continuous"`: `w · ((1 − β) KL(p ‖ m) + β KL(q ‖ m))`, from
      `KL(p ‖ q)` at β = 0 to `KL(q ‖ p)` at β = 1 without a jump.

    At β = ½ both are `KD(divergence="jsd")`.

    Args:
        beta: β, from 0 to 1: from mode covering to mode seeking. Cannot be changed
            later, because the ends have separate formulas.
        temperature: A positive number, or any `keras_dtkd.temperatures.Temperature`.
            Set it to a number to change it during training.
        convention: `"gkd"` or `"continuous"`.
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
        ValueError: `beta` is not in [0, 1], an unknown convention, a temperature not
            above 0, a negative weight.

    Reference:
        Agarwal et al., "On-Policy Distillation of Language Models", arXiv 2306.13649,
        equation 1. The ends, and temperature 1 independent of the sampling temperature,
        are those of TRL's `GKDTrainer`. The mixture of the second convention is ours;
        ms-swift exchanges the weights in the same way.

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
        beta = check_in_range("GeneralizedJSD", "beta", beta, 0, 1, inclusive=True)
        self.beta = float(beta)
        self.convention = check_choice(
            "GeneralizedJSD", "convention", convention, divergences.CONVENTIONS
        )

    def compute_values(
        self, student_logits, teacher_logits, temperatures, labels, sample_weight
    ):
        return temperatures.weight * divergences.generalized_jsd(
            soft_log_probs(teacher_logits, temperatures.teacher),
            soft_log_probs(student_logits, temperatures.student),
            self.beta,
            self.convention,
        )
