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
    """Correlation distance in value, and in rank.

    For each sample i, `λ_v · [w · (1 − cos_i) + w̄ · (1 − mean_c cos_c)]
    + λ_r · (1 − Spearman_i)`: `cos_i` is the uncentred cosine of both models' softened
    probabilities along the classes of a sample, `cos_c` that over the samples of
    a class, `w` the rule's weight and `w̄` the square of its root's mean over the batch
    (both T² for a constant T).

    The rank term is our variant. The authors rank by `argsort`, which has no gradient:
    their term changes what is logged and trains nothing. Here ranks are soft,
    `½ + Σ_j sigmoid((x_i − x_j) / softness)`, on the softened logits `x = z / T`, whose
    order is that of the probabilities. It takes memory for batch · classes²
    numbers. `softness=None` leaves it out, which trains as the authors' code does.

    The part over the samples of a class couples the batch. It is the same number for
    each sample, grows with the batch, and is taken over all rows there are: samples,
    and positions of sequences. Under JAX the batch is the global one; under
    `tf.distribute` and `torch.distributed` it is that of each replica. From one row
    it teaches next to nothing.

    The paper's teacher, averaged with its pruned copy, is
    `teachers.Ensemble([teacher, teachers.Pruned(teacher, 0.1)], [0.7, 0.3])`, and its
    augmented batch is a second `R2KD` with a `view=`.

    Args:
        temperature: A positive number, or any `keras_dtkd.temperatures` rule. Set it
            to a number to change it while training runs.
        value_weight: Factor λ_v. Not negative.
        rank_weight: Factor λ_r. Not negative. Without T², as the authors'.
        weight: Factor in the total. Not negative.
        warmup_epochs: See `DistillationLoss`.
        softness: The difference of two softened logits at which their order is 73 %
            decided; towards 0 ranks become true ones, and their gradient vanishes.
            Positive, or `None`.

    Call arguments:
        student_logits: `(batch, ..., classes)`.
        teacher_logits: `(batch, ..., classes)`.
        labels: Not used.
        sample_weight: How much each row counts in the cosines over samples,
            `(batch, ...)`: one of weight 2 as that row twice. Optional.

    Returns:
        One value a sample, `(batch, ...)`. Classes that both models mask out count
        nowhere, in ranks neither.

    Raises:
        ValueError: A temperature or `softness` not above 0, a negative factor.

    Reference:
        Kim et al., "Robustness-Reinforced Knowledge Distillation with Correlation
        Distance and Network Pruning", arXiv 2311.13934. As in the authors' code, 1e-8
        is added to the product of the norms. So equal models are not quite at 0: the
        less a class is wanted in the batch, the more is left of it, up to a distance
        of 1 where its probabilities are below about 1e-4. Their absolute value of the
        cosine changes nothing, since probabilities are positive.

    Example:

    >>> losses = {"plain": R2KD(), "mixed": R2KD(view="mixup")}
    >>> Distiller(teacher, student, losses, views=views.Mixup()).fit(x, y)
    """

    value_weight = Hyperparameter(minimum=0.0)
    rank_weight = Hyperparameter(minimum=0.0)
    softness = Hyperparameter(above=0.0)

    def __init__(
        self,
        temperature=4.0,
        value_weight=2.0,
        rank_weight=2.0,
        weight=1.0,
        warmup_epochs=0,
        softness=1.0,
        **kwargs,
    ):
        # As it is written; from the class's name it would be `r2_kd`.
        kwargs.setdefault("name", "r2kd")
        super().__init__(
            temperature, weight=weight, warmup_epochs=warmup_epochs, **kwargs
        )
        self.value_weight = value_weight
        self.rank_weight = rank_weight
        self._ranks = softness is not None
        if self._ranks:
            self.softness = softness

    def compute_values(
        self, student_logits, teacher_logits, temperatures, labels, sample_weight
    ):
        """One value a sample."""
        where = unmasked_by_any(student_logits, teacher_logits)
        q = soft_probs(student_logits, temperatures.student)
        p = soft_probs(teacher_logits, temperatures.teacher)
        rows = inter_class_distance(cosine, q, p, where)
        classes = intra_class_distance(cosine, q, p, where, sample_weight)
        common = batch_weight(temperatures.weight, sample_weight)
        value = self.hyperparameter("value_weight") * (
            temperatures.weight * rows + common * classes
        )
        if not self._ranks:
            return value
        softness = self.hyperparameter("softness")
        rank = spearman(
            soft_ranks(student_logits, softness * temperatures.student, where),
            soft_ranks(teacher_logits, softness * temperatures.teacher, where),
            where,
        )
        return value + self.hyperparameter("rank_weight") * (1.0 - rank)

    def get_config(self):
        """The arguments that make this loss again."""
        return {
            **super().get_config(),
            "value_weight": self.value_weight,
            "rank_weight": self.rank_weight,
            "softness": self.softness if self._ranks else None,
        }
