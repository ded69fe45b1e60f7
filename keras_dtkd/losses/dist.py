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
    """Matches Pearson correlations of probabilities instead of the probabilities.

    `β · w · (1 − ρ_i) + γ · w̄ · (1 − mean_c ρ_c)` for each sample i, with `ρ_i` the
    correlation of both models' softened probabilities along the classes of a
    sample, and `ρ_c` that over the samples of a class; `w` is the temperature's weight
    and `w̄` the square of the mean of its root over the batch (both T² for a constant
    T).

    The second term couples the batch: it is the same number for each sample, and
    changes with the batch size. It is taken over samples, positions of sequences and
    the labels of a multi-label output alike. A single sample has no correlation over
    samples: the term is then the constant `γ · w̄`, without gradient. The correlation of
    two numbers is always ±1, with a gradient of nearly 0: over a batch of two samples,
    and along two classes, such as the pair of each label of a multi-label output.

    Args:
        temperature: A positive number or a `Temperature`, see `TemperatureLoss`.
            The recipes use 4 on CIFAR-100 and 1 on ImageNet.
        beta: Factor β of the correlation along classes. Not negative.
        gamma: Factor γ of the correlation over samples. Not negative.
        scale_by_t2: Whether to multiply by the temperature's weight, as the authors'
            code does; the paper's appendix does not.
        **kwargs: `weight`, `warmup_epochs` and more, see `DistillationLoss`.

    Call arguments:
        student_logits, teacher_logits: `(batch, ..., classes)`.
        sample_weight: `(batch, ...)`. Weights in the correlations over samples: a
            sample of weight 2 equals that sample twice. Optional.

    Returns:
        One value per sample, `(batch, ...)`. Classes that both models mask out are
        ignored.

    Raises:
        ValueError: A temperature not above 0, a negative factor.

    Reference:
        Huang et al., "Knowledge Distillation from A Stronger Teacher",
        arXiv 2205.10536. As in the authors' code, 1e-8 is added to the product of the
        norms: `R2KD` describes the loss that this leaves for equal models. The
        correlation of constants is 0, even if both models are constant.

    Example:

    >>> Distiller(teacher, student, DIST(weight=2.0)).fit(x, y)  # as the recipes
    """

    beta = Hyperparameter(minimum=0.0)
    gamma = Hyperparameter(minimum=0.0)
    min_batch_size = 2

    def __init__(
        self, temperature=4.0, beta=1.0, gamma=1.0, scale_by_t2=True, **kwargs
    ):
        super().__init__(temperature, **kwargs)
        self.beta = beta
        self.gamma = gamma
        self.scale_by_t2 = scale_by_t2

    def compute_values(
        self, student_logits, teacher_logits, temperatures, labels, sample_weight
    ):
        q = soft_probs(student_logits, temperatures.student)
        p = soft_probs(teacher_logits, temperatures.teacher)
        where = unmasked_by_any(student_logits, teacher_logits)
        inter = inter_class_distance(pearson, q, p, where)
        intra = intra_class_distance(pearson, q, p, where, sample_weight)
        if self.scale_by_t2:
            inter = temperatures.weight * inter
            intra = batch_weight(temperatures.weight, sample_weight) * intra
        return (
            self.hyperparameter("beta") * inter + self.hyperparameter("gamma") * intra
        )
