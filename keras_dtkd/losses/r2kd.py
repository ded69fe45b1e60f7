"""Robustness-Reinforced Knowledge Distillation."""

import keras

from keras_dtkd.core.hyperparameters import Hyperparameter
from keras_dtkd.functional.correlation import (
    batch_weight,
    cosine,
    inter_class_distance,
    intra_class_distance,
    soft_probs,
    unmasked_by_any,
)
from keras_dtkd.functional.ranking import soft_ranks, spearman
from keras_dtkd.losses.temperature_loss import TemperatureLoss


@keras.saving.register_keras_serializable("keras_dtkd")
class R2KD(TemperatureLoss):
    """Correlation distance in value and in rank.

    For each sample i, `λ_v · [w · (1 − cos_i) + w̄ · (1 − mean_c cos_c)]
    + λ_r · (1 − Spearman_i)`: `cos_i` is the uncentered cosine of both models' softened
    probabilities along the classes of a sample, `cos_c` that over the samples of
    a class, `w` the temperature's weight and `w̄` the square of the mean of its root
    over the batch (both T² for a constant T).

    The rank term is our variant. The authors rank by `argsort`, which has no gradient:
    their term changes the logged loss but not the training. Here ranks are soft,
    `½ + Σ_j sigmoid((x_i − x_j) / rank_temperature)`, on the softened logits
    `x = z / T`, whose order is that of the probabilities. It needs memory for
    batch · classes² numbers. `rank_temperature=None` omits it, which trains like the
    authors' code.

    The part over the samples of a class couples the batch. It is the same number for
    each sample, grows with the batch size, and is taken over samples and positions of
    sequences alike. The gradient of a single sample is nearly 0.

    The paper's teacher, averaged with its pruned copy, is
    `teachers.Ensemble([teacher, teachers.Pruned(teacher, 0.1)], [0.7, 0.3])`, and its
    augmented batch is a second `R2KD` with a `view=`.

    Args:
        temperature: A positive number or a `Temperature`, see `TemperatureLoss`.
        value_weight: Factor λ_v. Not negative.
        rank_weight: Factor λ_r. Not negative. Without T², as in the authors' code.
        rank_temperature: The difference of two softened logits at which the sigmoid of
            their comparison is 0.73. Towards 0 the soft ranks approach the true ranks
            and their gradient vanishes. Positive, or `None` for no rank term.
        **kwargs: `weight`, `warmup_epochs` and more, see `DistillationLoss`.

    Call arguments:
        student_logits, teacher_logits: `(batch, ..., classes)`.
        sample_weight: `(batch, ...)`. Weights in the cosines over samples: a sample of
            weight 2 equals that sample twice. Optional.

    Returns:
        One value per sample, `(batch, ...)`. Classes that both models mask out are
        ignored, also in the ranks.

    Raises:
        ValueError: A temperature or `rank_temperature` not above 0, a negative factor.

    Reference:
        Kim et al., "Robustness-Reinforced Knowledge Distillation with Correlation
        Distance and Network Pruning", arXiv 2311.13934. As in the authors' code, 1e-8
        is added to the product of the norms. So the loss of equal models is not exactly
        0: the smaller the probabilities of a class in the batch, the larger its
        distance, up to 1 where they are below about 1e-4. Their absolute value of the
        cosine changes nothing, because probabilities are positive.

    Example:

    >>> losses = {"plain": R2KD(), "mixed": R2KD(view="mixup")}
    >>> Distiller(teacher, student, losses, views=views.Mixup()).fit(x, y)
    """

    value_weight = Hyperparameter(minimum=0.0)
    rank_weight = Hyperparameter(minimum=0.0)
    rank_temperature = Hyperparameter(greater_than=0.0)
    min_batch_size = 2

    def __init__(
        self,
        temperature=4.0,
        value_weight=2.0,
        rank_weight=2.0,
        rank_temperature=1.0,
        **kwargs,
    ):
        # The name derived from the class would be `r2_kd`.
        kwargs.setdefault("name", "r2kd")
        super().__init__(temperature, **kwargs)
        self.value_weight = value_weight
        self.rank_weight = rank_weight
        self._uses_ranks = rank_temperature is not None
        if self._uses_ranks:
            self.rank_temperature = rank_temperature

    def compute_values(
        self, student_logits, teacher_logits, temperatures, labels, sample_weight
    ):
        where = unmasked_by_any(student_logits, teacher_logits)
        q = soft_probs(student_logits, temperatures.student)
        p = soft_probs(teacher_logits, temperatures.teacher)
        inter = inter_class_distance(cosine, q, p, where)
        intra = intra_class_distance(cosine, q, p, where, sample_weight)
        intra_weight = batch_weight(temperatures.weight, sample_weight)
        value = self.hyperparameter("value_weight") * (
            temperatures.weight * inter + intra_weight * intra
        )
        if not self._uses_ranks:
            return value
        rank_temperature = self.hyperparameter("rank_temperature")
        rank = spearman(
            soft_ranks(student_logits, rank_temperature * temperatures.student, where),
            soft_ranks(teacher_logits, rank_temperature * temperatures.teacher, where),
            where,
        )
        return value + self.hyperparameter("rank_weight") * (1.0 - rank)

    def get_config(self):
        return {"rank_temperature": None, **super().get_config()}
