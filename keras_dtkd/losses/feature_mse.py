"""Features of several levels, by the mean or the sum of their squared differences."""

import keras
from keras import ops

from keras_dtkd.core.arguments import check_choice
from keras_dtkd.losses.fitnet import FitNet

REDUCTIONS = "mean", "sum"


@keras.saving.register_keras_serializable("keras_dtkd")
class FeatureMSE(FitNet):
    """Matches the levels of a pyramid: `FitNet`, with the sum of detection's code too.

    For each level the mean of `(r(f_s) − f_t)²` over channels and positions, or their
    sum. The sum grows with the resolution, and finer levels count more in it. Of
    sequences `(batch, time, channels)` it is the sum over channels alone: each position
    has its value, as in `FitNet`, and a sample their mean.

    Args:
        features: Levels, see `FeatureLoss`: `["fpn[P3]", "fpn[P4]"]`.
        reduction: `"mean"`, or `"sum"`. A weight for the sum is one for the mean once
            it is multiplied by channels · height · width of a level.
        **kwargs: `projector`, see `ProjectedFeatureLoss`; `weight` and more, see
            `DistillationLoss`.

    Raises:
        ValueError: An unknown `reduction`. Before the first step: features that cannot
            be brought to one shape.

    Reference:
        Chen et al., "Learning Efficient Object Detection Models with Knowledge
        Distillation", NeurIPS 2017, hint learning, whose one layer is here each level
        of a pyramid.

    Example:

    >>> loss = FeatureMSE(["fpn[P3]", "fpn[P4]", "fpn[P5]"])
    >>> Distiller(teacher, student, loss).fit(images, {"boxes": b, "labels": c})
    """

    def __init__(self, features, reduction="mean", **kwargs):
        super().__init__(features, **kwargs)
        caller = type(self).__name__
        self.reduction = check_choice(caller, "reduction", reduction, REDUCTIONS)

    def reduce_distances(self, distances, axis):
        reduce = ops.mean if self.reduction == "mean" else ops.sum
        return reduce(distances, axis)
