"""Attention transfer: where a map's energy is."""

import keras
from keras import ops

from keras_dtkd.core.arguments import check_in_range
from keras_dtkd.functional.norms import normalize
from keras_dtkd.losses.feature_base import FeatureLoss
from keras_dtkd.losses.projected_features import resize


@keras.saving.register_keras_serializable("keras_dtkd")
class AttentionTransfer(FeatureLoss):
    """Matches where the models' maps have their energy.

    `mean (a_s − a_t)²` over positions, with `a = v / ‖v‖` and v the mean of `|f|^p`
    over the channels. Widths may differ; the larger map is resized to the smaller.

    Args:
        features: See `FeatureLoss`: maps, or sequences.
        power: p, at least 1.
        **kwargs: `weight`, `warmup_epochs` and more, see `DistillationLoss`. The
            authors' weight is 1000 (β = 1000, on the sum of the pairs).

    Raises:
        ValueError: `power` is below 1. Before the first step: features without
            positions.

    Reference:
        Zagoruyko and Komodakis, "Paying More Attention to Attention", arXiv 1612.03928.
        As the authors' code: the mean of squares; the paper's equation 2 has the norm
        of the difference.

    Example:

    >>> loss = AttentionTransfer([("stage1", "stage1"), "stage2"], weight=1000.0)
    >>> Distiller(teacher, student, [KD(), loss]).fit(x, y)
    """

    def __init__(self, features, power=2.0, **kwargs):
        super().__init__(features, **kwargs)
        self.power = check_in_range(
            "AttentionTransfer", "power", power, 1, inclusive=True
        )

    def compare(self, student, teacher, number=0, weights=None, masks=(None, None)):
        if len(student.shape) != len(teacher.shape) or len(student.shape) < 3:
            raise ValueError(
                "`AttentionTransfer`: features of shapes "
                f"{tuple(student.shape)} and {tuple(teacher.shape)} are no maps."
            )
        if len(student.shape) == 4:
            pairs = zip(student.shape[1:3], teacher.shape[1:3], strict=True)
            size = [None if None in pair else min(pair) for pair in pairs]
            student, teacher = resize(student, size), resize(teacher, size)
        maps = list(map(self._energy, (student, teacher), masks))
        squares = (maps[0] - maps[1]) ** 2
        if masks[0] is None:
            return ops.mean(squares, axis=-1)
        return ops.sum(squares, axis=-1) / ops.maximum(ops.sum(masks[0], axis=1), 1.0)

    def _energy(self, feature, mask):
        energy = ops.mean(ops.abs(feature) ** self.power, axis=-1)
        energy = ops.reshape(energy, (ops.shape(energy)[0], -1))
        if mask is not None:
            energy = energy * mask
        return normalize(energy)
