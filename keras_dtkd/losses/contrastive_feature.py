"""Contrastive features: each sample is found among those of its batch."""

import keras
from keras import ops

from keras_dtkd.core.hyperparameters import Hyperparameter
from keras_dtkd.functional.norms import normalize
from keras_dtkd.functional.statistics import MIN_LOGIT
from keras_dtkd.losses.feature_base import pool_positions
from keras_dtkd.losses.projected_features import ProjectedFeatureLoss


@keras.saving.register_keras_serializable("keras_dtkd")
class ContrastiveFeature(ProjectedFeatureLoss):
    """The student's feature of a sample is to be nearest to the teacher's of it.

    `−log softmax_j(z_s,i · z_t,j / τ)` at `j = i`, for each sample i: the other samples
    of the batch are its negatives. z are the features, averaged over positions, the
    student's projected, of length 1.

    Args:
        features, projector: See `ProjectedFeatureLoss`.
        temperature: τ. Positive; may be changed while training runs.
        **kwargs: `weight`, `warmup_epochs` and more, see `DistillationLoss`.

    Raises:
        ValueError: `temperature` is not positive.

    Reference:
        Oord et al., arXiv 1807.03748, equation 4 (InfoNCE); between teacher and student
        Tian et al., "Contrastive Representation Distillation", arXiv 1910.10699, whose
        negatives come from a memory of the data set, and which embeds the teacher too.
        A sample of weight 2 counts as two negatives.

    Example:

    >>> loss = ContrastiveFeature([("avg_pool", "avg_pool")], weight=1.0)
    >>> Distiller(teacher, student, [KD(), loss]).fit(x, y)
    """

    temperature = Hyperparameter(greater_than=0.0)
    min_batch_size = 2

    def __init__(self, features, projector="auto", temperature=0.07, **kwargs):
        super().__init__(features, projector, **kwargs)
        self.temperature = temperature

    def compare(self, student, teacher, number=0, weights=None, masks=(None, None)):
        projector, training = self.projectors[number], self._is_training_step
        student = ops.cast(projector(student, training=training), "float32")
        pooled = map(pool_positions, (student, teacher), masks)
        student, teacher = map(normalize, pooled)
        logits = ops.matmul(student, ops.transpose(teacher))
        own = ops.sum(student * teacher, axis=-1)
        logits, own = (a / self.hyperparameter("temperature") for a in (logits, own))
        if weights is not None:
            is_counted = weights > 0
            counts = ops.log(ops.where(is_counted, weights, 1.0))
            logits = logits + ops.where(is_counted, counts, MIN_LOGIT)
        return ops.logsumexp(logits, axis=-1) - own
