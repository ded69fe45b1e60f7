"""Cosine Similarity Knowledge Distillation."""

import keras
from keras import ops

from keras_dtkd.core.hyperparameters import Hyperparameter
from keras_dtkd.functional.correlation import (
    batch_weight,
    cosine,
    intra_class_distance,
    soft_probs,
    unmasked_by_any,
)
from keras_dtkd.losses.base import DistillationLoss, LossValues
from keras_dtkd.temperatures.base import get as get_temperature
from keras_dtkd.temperatures.constant import Constant
from keras_dtkd.temperatures.cosine_similarity import CosineSimilarity


@keras.saving.register_keras_serializable("keras_dtkd")
class CSKD(DistillationLoss):
    """Matches each class over the batch, by cosine, at several temperatures.

    `Σ_T α · w̄ · (1 − mean_c cos(q[:, c], p[:, c]))`, one term for each temperature:
    `q` and `p` are the softened probabilities of student and teacher, whose columns run
    over the batch, and `w̄` is the square of the mean over the batch of the root of
    the temperature's weight (T² for a constant T, `(mean T_i)²` where each sample has
    its own).

    The whole loss couples the batch: it is the same number for each sample, and
    grows with the batch size (for the same data about 2 at 2 samples, 8 at 64, 12 at
    512). It is taken over samples and positions of sequences alike. The gradient of a
    single sample is nearly 0.

    Args:
        alpha: Factor α of every term. Not negative. Can be changed during training.
        temperatures: Positive numbers or `keras_dtkd.temperatures.Temperature`s, one
            for each term. `None` is the paper's `(4.0, CosineSimilarity())`.
        **kwargs: `weight`, `warmup_epochs` and more, see `DistillationLoss`.

    Call arguments:
        student_logits, teacher_logits: `(batch, ..., classes)`.
        sample_weight: `(batch, ...)`. Weights in the sums over the batch: a sample of
            weight 2 equals that sample twice. Optional.

    Returns:
        The same value for each sample, `(batch, ...)`. Classes that both models mask
        out are ignored.

    Raises:
        ValueError: A negative factor, no temperatures, or one not above 0.

    Reference:
        Ham et al., "Cosine Similarity Knowledge Distillation for Individual Class
        Information Transfer", arXiv 2311.14307. No code of its authors is public:
        the formula follows that of a later work built on it, "Leveraging logit
        uncertainty", Scientific Reports 2024 (repository llieeai/lud), without that
        work's additions. As there, 1e-8 is added to the product of the norms: `R2KD`
        describes the loss that this leaves for equal models.

    Example:

    >>> Distiller(teacher, student, CSKD()).fit(x, y, batch_size=64)
    """

    alpha = Hyperparameter(minimum=0.0)
    compares_classes = True
    min_batch_size = 2

    def __init__(self, alpha=2.0, temperatures=None, **kwargs):
        super().__init__(**kwargs)
        self.alpha = alpha
        if temperatures is None:
            # Not in the signature: all losses would share one instance.
            temperatures = (4.0, CosineSimilarity())
        if not isinstance(temperatures, list | tuple) or not temperatures:
            raise ValueError(
                "`CSKD`: `temperatures` must be a list of at least one temperature. "
                f"Received: temperatures={temperatures!r}."
            )
        self._temperatures = [get_temperature(value) for value in temperatures]

    @property
    def temperatures(self):
        """The temperatures, one for each term."""
        return tuple(self._temperatures)

    def get_temperatures(self):
        """All temperatures. The first one that is not a `Constant` is logged."""
        return sorted(self._temperatures, key=lambda t: isinstance(t, Constant))

    def call(
        self,
        student_logits,
        teacher_logits,
        labels=None,
        sample_weight=None,
        return_temperatures=False,
    ):
        where = unmasked_by_any(student_logits, teacher_logits)
        logged = self.get_temperatures()[0]
        total, logged_pair = 0.0, None
        for temperature in self._temperatures:
            t = temperature(student_logits, teacher_logits, sample_weight)
            if temperature is logged:
                logged_pair = t
            q = soft_probs(student_logits, t.student)
            p = soft_probs(teacher_logits, t.teacher)
            distance = intra_class_distance(cosine, q, p, where, sample_weight)
            total = total + batch_weight(t.weight, sample_weight) * distance
        values = (
            self.hyperparameter("alpha") * total * ops.ones_like(student_logits[..., 0])
        )
        return LossValues(values, logged_pair) if return_temperatures else values
