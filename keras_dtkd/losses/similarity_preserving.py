"""Similarity-preserving distillation: which samples of a batch are alike."""

import keras
from keras import ops

from keras_dtkd.functional.norms import normalize
from keras_dtkd.losses.feature_base import FeatureLoss, flatten_samples


@keras.saving.register_keras_serializable("keras_dtkd")
class SimilarityPreserving(FeatureLoss):
    """Matches which samples of a batch activate a model alike.

    `‖Ĝ_s − Ĝ_t‖² / B²`, with `G = F Fᵀ` of the flattened features `(B, ...)` and each
    row of Ĝ divided by its norm. Widths, sizes and ranks may differ.

    Args:
        features: See `FeatureLoss`.
        **kwargs: `weight`, `warmup_epochs` and more, see `DistillationLoss`. The
            authors' γ is 3000 on CIFAR-10.

    Returns:
        The batch's value for each sample: it couples the batch.

    Reference:
        Tung and Mori, "Similarity-Preserving Knowledge Distillation", arXiv 1907.09682,
        equations 2 to 4. Weights of samples count as frequencies.

    Example:

    >>> loss = SimilarityPreserving([("stage3", "stage3")], weight=3000.0)
    >>> Distiller(teacher, student, [KD(), loss]).fit(x, y)
    """

    min_batch_size = 2

    def compare(self, student, teacher, number=0, weights=None, masks=(None, None)):
        ones = ops.ones_like(ops.reshape(student, (ops.shape(student)[0], -1))[:, 0])
        weights = ones if weights is None else weights

        def similarity(feature, mask):
            rows = flatten_samples(feature, mask)
            gram = ops.matmul(rows, ops.transpose(rows))
            return normalize(gram, weights)

        squares = (similarity(student, masks[0]) - similarity(teacher, masks[1])) ** 2
        pairs = weights[:, None] * weights
        total = ops.sum(pairs)
        value = ops.sum(pairs * squares) / ops.where(total > 0, total, 1.0)
        return ones * value
