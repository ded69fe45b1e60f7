"""Knowledge Distillation from A Stronger Teacher (DIST)."""

import keras

from keras_dtkd.core.hyperparameters import Hyperparameter
from keras_dtkd.functional.correlation import (
    batch_weight,
    inter_class_distance,
    intra_class_distance,
    pearson,
    soft_probs,
    unmasked_by_any,
)
from keras_dtkd.losses.temperature_loss import TemperatureLoss


@keras.saving.register_keras_serializable("keras_dtkd")
class DIST(TemperatureLoss):
    """Asks for the teacher's relations, by Pearson's correlation, not for its numbers.

    `β · w · (1 − ρ_i) + γ · w̄ · (1 − mean_c ρ_c)` for each sample i, with `ρ_i` the
    correlation of both models' softened probabilities along the classes of a
    sample, and `ρ_c` that over the samples of a class; `w` is the rule's weight and
    `w̄` the square of its root's mean over the batch (both T² for a constant T).

    The second term couples the batch: it is the same number for each sample, and
    changes with the size of the batch. It is taken over all rows there are: samples,
    positions of sequences, labels of a sigmoid head. Under JAX the batch is the
    global one; under `tf.distribute` and `torch.distributed` it is that of each
    replica. One row has no correlation over samples: the term is then the constant
    `γ · w̄`, without gradient. Of two numbers every correlation is ±1, with next to no
    gradient: that over a batch of two rows, and that along two classes, of which each
    label of a sigmoid head is a pair.

    Args:
        temperature: A positive number, or any `keras_dtkd.temperatures` rule. Set it
            to a number to change it while training runs. The recipes' is 4 on
            CIFAR-100 and 1 on ImageNet.
        beta: Factor β of the correlation along classes. Not negative.
        gamma: Factor γ of the correlation over samples. Not negative.
        scale_by_t2: Whether to multiply by the rule's weight, as the authors' code;
            the paper's appendix does not.
        weight: Factor in the total. Not negative. The recipes' is 2.
        warmup_epochs: See `DistillationLoss`.

    Call arguments:
        student_logits: `(batch, ..., classes)`.
        teacher_logits: `(batch, ..., classes)`.
        labels: Not used.
        sample_weight: How much each row counts in the correlations over samples,
            `(batch, ...)`: one of weight 2 as that row twice. Optional.

    Returns:
        One value a sample, `(batch, ...)`. Classes that both models mask out count
        nowhere.

    Raises:
        ValueError: A temperature not above 0, a negative factor.

    Reference:
        Huang et al., "Knowledge Distillation from A Stronger Teacher",
        arXiv 2205.10536. As in the authors' code, 1e-8 is added to the product of the
        norms: what that leaves of equal models is said in `R2KD`, and what is
        constant has the correlation 0, in both models too.

    Example:

    >>> Distiller(teacher, student, DIST(weight=2.0)).fit(x, y)
    """

    beta = Hyperparameter(minimum=0.0)
    gamma = Hyperparameter(minimum=0.0)

    def __init__(
        self,
        temperature=4.0,
        beta=1.0,
        gamma=1.0,
        scale_by_t2=True,
        weight=1.0,
        warmup_epochs=0,
        **kwargs,
    ):
        super().__init__(
            temperature, weight=weight, warmup_epochs=warmup_epochs, **kwargs
        )
        self.beta = beta
        self.gamma = gamma
        self.scale_by_t2 = scale_by_t2

    def compute_values(
        self, student_logits, teacher_logits, temperatures, labels, sample_weight
    ):
        """One value a sample."""
        q = soft_probs(student_logits, temperatures.student)
        p = soft_probs(teacher_logits, temperatures.teacher)
        where = unmasked_by_any(student_logits, teacher_logits)
        rows = inter_class_distance(pearson, q, p, where)
        classes = intra_class_distance(pearson, q, p, where, sample_weight)
        if self.scale_by_t2:
            rows = temperatures.weight * rows
            classes = batch_weight(temperatures.weight, sample_weight) * classes
        return (
            self.hyperparameter("beta") * rows + self.hyperparameter("gamma") * classes
        )

    def get_config(self):
        """The arguments that make this loss again."""
        return {
            **super().get_config(),
            "beta": self.beta,
            "gamma": self.gamma,
            "scale_by_t2": self.scale_by_t2,
        }
