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
      both ends, so it jumps there: at β = 0.99 the gradient is nearly 0.
    - `convention="continuous"`: `w · ((1 − β) KL(p ‖ m) + β KL(q ‖ m))`, from
      `KL(p ‖ q)` at β = 0 to `KL(q ‖ p)` at β = 1 without a jump.

    At β = ½ both are `KD(divergence="jsd")`.

    Args:
        beta: β, from 0 to 1: from mode covering to mode seeking. Cannot be changed
            later, because the ends have separate formulas.
        temperature: A positive number or a `Temperature`, see `TemperatureLoss`.
        convention: `"gkd"` or `"continuous"`.
        **kwargs: `weight`, `warmup_epochs` and more, see `DistillationLoss`.

    Call arguments:
        student_logits, teacher_logits: `(batch, ..., classes)`.

    Returns:
        One value per sample, `(batch, ...)`, in nats times the temperature's weight.

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

    def __init__(self, beta=0.5, temperature=1.0, convention="gkd", **kwargs):
        super().__init__(temperature, **kwargs)
        beta = check_in_range("GeneralizedJSD", "beta", beta, 0, 1, inclusive=True)
        self.beta = float(beta)
        self.convention = check_choice(
            "GeneralizedJSD", "convention", convention, divergences.CONVENTIONS
        )

    def chunked_arguments(self):
        return self.with_temperature(divergence=self.beta, convention=self.convention)

    def compute_values(
        self, student_logits, teacher_logits, temperatures, labels, sample_weight
    ):
        return temperatures.weight * divergences.generalized_jsd(
            soft_log_probs(teacher_logits, temperatures.teacher),
            soft_log_probs(student_logits, temperatures.student),
            self.beta,
            self.convention,
        )
