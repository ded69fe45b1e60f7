"""Relational knowledge distillation: distances and angles between samples."""

import keras
from keras import ops

from keras_dtkd.core.hyperparameters import Hyperparameter
from keras_dtkd.functional.norms import EPSILON, safe_sqrt
from keras_dtkd.losses.feature_base import FeatureLoss, flatten_samples


@keras.saving.register_keras_serializable("keras_dtkd")
class RKD(FeatureLoss):
    """Matches distances of pairs and angles of triplets of samples.

    `distance · mean_ij h(d_ij / d̄) + angle · mean_ijk h(cos ∠ijk)`, with h the Huber
    function (1) of the models' difference, d Euclidean distances of flattened features
    and d̄ their mean over unlike samples. Widths, sizes and ranks may differ. The angles
    take `batch³` numbers, 64 MiB at 256 samples, and the differences `batch² · width`:
    flattened maps of 16,384 numbers are 4 GiB there. Take pooled features.

    Args:
        features: See `FeatureLoss`. The authors take the last one before the logits.
        distance: Weight of the distances. Not negative.
        angle: Weight of the angles. Not negative.
        **kwargs: `weight`, `warmup_epochs` and more, see `DistillationLoss`.

    Returns:
        The batch's value for each sample: it couples the batch.

    Raises:
        ValueError: A negative weight.

    Reference:
        Park et al., "Relational Knowledge Distillation", arXiv 1904.05068, equations 4
        to 9, with the authors' weights 25 and 50 (1 : 2). Weights of samples count as
        frequencies.

    Example:

    >>> Distiller(teacher, student, [KD(), RKD(["avg_pool"])]).fit(x, y)
    """

    distance = Hyperparameter(minimum=0.0)
    angle = Hyperparameter(minimum=0.0)
    min_batch_size = 2

    def __init__(self, features, distance=25.0, angle=50.0, **kwargs):
        super().__init__(features, **kwargs)
        self.distance = distance
        self.angle = angle

    def compare(self, student, teacher, number=0, weights=None, masks=(None, None)):
        rows = list(map(flatten_samples, (student, teacher), masks))
        ones = ops.ones_like(rows[0][:, 0])
        weights = ones if weights is None else weights
        pairs = weights[:, None] * weights
        relations = (_relations(each, pairs) for each in rows)
        distances, angles = zip(*relations, strict=True)
        triplets = weights[:, None, None] * pairs
        value = self.hyperparameter("distance") * _mean(_huber(*distances), pairs)
        value += self.hyperparameter("angle") * _mean(_huber(*angles), triplets)
        return ones * value


def _relations(rows, pairs):
    """Normalized distances `(batch, batch)`, and cosines `(batch, batch, batch)`."""
    gaps = rows[None] - rows[:, None]
    squares = ops.sum(gaps**2, axis=-1)
    distances = safe_sqrt(squares)
    unlike = ops.cast(squares > 0, "float32")
    mean = _mean(distances, pairs * unlike)
    directions = gaps * ops.rsqrt(squares + EPSILON)[..., None]
    cosines = ops.matmul(directions, ops.transpose(directions, (0, 2, 1)))
    return distances / ops.where(mean > 0, mean, 1.0), cosines


def _huber(student, teacher):
    gap = ops.abs(student - teacher)
    return ops.where(gap < 1, 0.5 * gap**2, gap - 0.5)


def _mean(values, weights):
    total = ops.sum(weights)
    return ops.sum(weights * values) / ops.where(total > 0, total, 1.0)
