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
    """Splits the divergence at the label: how sure of it, and how the rest is shared.

    `w · [α · KL(b_t ‖ b_s) + β · KL(p̂_t ‖ p̂_s)]` for each sample, with
    `b = (p_y, 1 − p_y)` the softened probability of the label and of all else, `p̂` the
    softened probabilities of the other classes among themselves, and `w` the rule's
    weight (T² for a constant T). Hinton's divergence has `1 − p_t,y` for β, and so
    passes over samples of which the teacher is sure.

    Of two classes the other one has nothing to share: that term is exactly 0, and so
    is its gradient. The temperature is that of both terms.

    Args:
        temperature: A positive number, or any `keras_dtkd.temperatures` rule. Set it
            to a number to change it while training runs.
        alpha: Factor α of the label's term. Not negative.
        beta: Factor β of the other classes' term. Not negative. The authors tune it
            to the pair of models, see `for_pair`.
        warmup_epochs: See `DistillationLoss`. The authors' 20, of 240.
        weight: Factor in the total. Not negative.

    Call arguments:
        student_logits: `(batch, ..., classes)`.
        teacher_logits: `(batch, ..., classes)`.
        labels: Integers or one-hot, see `functional.labels`. A soft label counts as
            its greatest class: mixed labels would need a definition with two. A
            sample without a label (such as -1) has no loss.
        sample_weight: For a rule that couples the batch, see `DistillationLoss`.

    Returns:
        One value a sample, in nats times the rule's weight, `(batch, ...)`.

    Raises:
        ValueError: A temperature not above 0, a negative factor; in `call`, no labels.

    Reference:
        Zhao et al., "Decoupled Knowledge Distillation", arXiv 2203.08679.
        The warm-up is in the authors' code. That code subtracts 1000 from the label's
        logit and takes the logarithm of a sum of probabilities, which is infinite
        from a gap of about 400 on in float32; here all is in log space.

    Example:

    >>> Distiller(teacher, student, DKD.for_pair("vgg13", "vgg8")).fit(x, y)
    """

    alpha = Hyperparameter(minimum=0.0)
    beta = Hyperparameter(minimum=0.0)
    needs_labels = True

    def __init__(
        self,
        temperature=4.0,
        alpha=1.0,
        beta=8.0,
        warmup_epochs=20,
        weight=1.0,
        **kwargs,
    ):
        super().__init__(
            temperature, weight=weight, warmup_epochs=warmup_epochs, **kwargs
        )
        self.alpha = alpha
        self.beta = beta

    @classmethod
    def for_pair(cls, teacher, student, **kwargs):
        """The authors' form with their β for one of their CIFAR-100 pairs.

        Args:
            teacher: Name of the teacher, `"resnet32x4"`.
            student: Name of the student, `"resnet8x4"`.
            **kwargs: As the class's, instead of the pair's.

        Returns:
            A `DKD`.

        Raises:
            ValueError: No such pair, with the list of the eleven.
        """
        constants = pair_constants(teacher, student, "DKD", "DKD(beta=…)")
        return cls(**{"beta": constants.dkd_beta, **kwargs})

    def compute_values(
        self, student_logits, teacher_logits, temperatures, labels, sample_weight
    ):
        """One value a sample."""
        if labels is None:
            raise ValueError("`DKD` needs labels. Received: labels=None.")
        label = one_hot(labels, student_logits)
        target = kl(
            target_log_probs(teacher_logits, temperatures.teacher, label),
            target_log_probs(student_logits, temperatures.student, label),
        )
        rest = kl(
            non_target_log_probs(teacher_logits, temperatures.teacher, label),
            non_target_log_probs(student_logits, temperatures.student, label),
        )
        both = (
            self.hyperparameter("alpha") * target + self.hyperparameter("beta") * rest
        )
        return ops.sum(label, axis=-1) * temperatures.weight * both

    def get_config(self):
        """The arguments that make this loss again."""
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "beta": self.beta,
        }
