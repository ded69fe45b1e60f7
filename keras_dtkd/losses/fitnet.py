"""Hints: the student's features are regressed to the teacher's."""

import keras
from keras import ops

from keras_dtkd.losses.projected_features import ProjectedFeatureLoss


@keras.saving.register_keras_serializable("keras_dtkd")
class FitNet(ProjectedFeatureLoss):
    """Matches hidden features, through a projector where their widths differ (hints).

    `mean (r(f_s) − f_t)²` over channels and positions, with the projector r; maps of
    another size are resized to the teacher's. Of a pair of sequences each position has
    its value.

    Args:
        features, projector: See `ProjectedFeatureLoss`.
        **kwargs: `weight`, `warmup_epochs` and more, see `DistillationLoss`. Usual
            weights are 100 on CIFAR-100 (mdistiller's, with a mean as here).

    Raises:
        TypeError, ValueError: See `FeatureLoss`. Before the first step: features that
            cannot be brought to one shape.

    Reference:
        Romero et al., "FitNets: Hints for Thin Deep Nets", arXiv 1412.6550, equation 3,
        which has half the sum in place of the mean, and trains on the hint alone
        before anything else: `HyperparameterSchedule` sets such phases.

    Example:

    >>> loss = FitNet([("stage2", "block_3")], weight=100.0)
    >>> Distiller(teacher, student, [KD(), loss]).fit(x, y)
    """

    def compare(self, student, teacher, number=0, weights=None, masks=(None, None)):
        distances = self.distance(self.project(student, teacher, number), teacher)
        first = 2 if len(distances.shape) == 3 else 1
        return self.reduce_distances(
            distances, axis=tuple(range(first, len(distances.shape)))
        )

    def reduce_distances(self, distances, axis):
        """The distances over channels and positions as one number."""
        return ops.mean(distances, axis)

    def distance(self, student, teacher):
        """Of each number to the teacher's, whose mean the loss is."""
        return (student - teacher) ** 2
