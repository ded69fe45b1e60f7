"""Decoupled Knowledge Distillation."""

import keras
from keras import ops

from keras_dtkd.core.hyperparameters import Hyperparameter
from keras_dtkd.core.model_pairs import pair_constants
from keras_dtkd.functional.decoupled import non_target_log_probs, target_log_probs
from keras_dtkd.functional.divergences import kl
from keras_dtkd.functional.labels import one_hot
from keras_dtkd.losses.temperature_loss import TemperatureLoss


@keras.saving.register_keras_serializable("keras_dtkd")
class DKD(TemperatureLoss):
    """Weights the target class and the other classes of the KL divergence separately.

    `w · [α · KL(b_t ‖ b_s) + β · KL(p̂_t ‖ p̂_s)]` for each sample, with
    `b = (p_y, 1 − p_y)` the softened probabilities of the label and of all other
    classes together, `p̂` the softened probabilities among the other classes, and `w`
    the temperature's weight (T² for a constant T). Hinton's divergence has `1 − p_t,y`
    in place of β, and so nearly ignores samples on which the teacher is confident.

    With two classes the second term is exactly 0, and so is its gradient. Both terms
    have the same temperature.

    Args:
        temperature: A positive number or a `Temperature`, see `TemperatureLoss`.
        alpha: Factor α of the target term. Not negative.
        beta: Factor β of the non-target term. Not negative. The authors tune it to the
            pair of models, see `for_pair`.
        warmup_epochs: See `DistillationLoss`. The authors use 20 of 240.
        **kwargs: `weight` and more, see `DistillationLoss`.

    Call arguments:
        student_logits, teacher_logits: `(batch, ..., classes)`.
        labels: Integers or one-hot, see `functional.labels`. A soft label counts as
            its most probable class: the loss is not defined for two labels of a sample.
            The loss of a sample without a label (such as -1) is 0.

    Returns:
        One value per sample, in nats times the temperature's weight, `(batch, ...)`.

    Raises:
        ValueError: A temperature not above 0, a negative factor; in `call`, no labels.

    Reference:
        Zhao et al., "Decoupled Knowledge Distillation", arXiv 2203.08679.
        The warm-up is in the authors' code. That code subtracts 1000 from the label's
        logit and takes the logarithm of a sum of probabilities, which in float32 is
        infinite above a gap of about 400; here everything is computed in log space.

    Example:

    >>> Distiller(teacher, student, DKD.for_pair("vgg13", "vgg8")).fit(x, y)
    """

    alpha = Hyperparameter(minimum=0.0)
    beta = Hyperparameter(minimum=0.0)
    needs_labels = True

    def __init__(
        self, temperature=4.0, alpha=1.0, beta=8.0, warmup_epochs=20, **kwargs
    ):
        super().__init__(temperature, warmup_epochs=warmup_epochs, **kwargs)
        self.alpha = alpha
        self.beta = beta

    @classmethod
    def for_pair(cls, teacher, student, **kwargs):
        """The loss with the authors' β for one of their CIFAR-100 pairs.

        Args:
            teacher: Name of the teacher, such as `"resnet32x4"`.
            student: Name of the student, such as `"resnet8x4"`.
            **kwargs: Arguments of the class, which override the pair's.

        Raises:
            ValueError: Unknown pair. The message lists the eleven pairs.
        """
        constants = pair_constants(teacher, student, "DKD", "DKD(beta=…)")
        return cls(**{"beta": constants.dkd_beta, **kwargs})

    def compute_values(
        self, student_logits, teacher_logits, temperatures, labels, sample_weight
    ):
        if labels is None:
            raise ValueError("`DKD` needs labels. Received: labels=None.")
        label = one_hot(labels, student_logits)
        target = kl(
            target_log_probs(teacher_logits, temperatures.teacher, label),
            target_log_probs(student_logits, temperatures.student, label),
        )
        non_target = kl(
            non_target_log_probs(teacher_logits, temperatures.teacher, label),
            non_target_log_probs(student_logits, temperatures.student, label),
        )
        alpha, beta = self.hyperparameter("alpha"), self.hyperparameter("beta")
        has_label = ops.sum(label, axis=-1)
        return has_label * temperatures.weight * (alpha * target + beta * non_target)
