"""Masked generative distillation: features from the student's visible positions."""

import keras
from keras import ops

from keras_dtkd.core.arguments import check_choice
from keras_dtkd.core.hyperparameters import Hyperparameter
from keras_dtkd.losses.feature_mse import REDUCTIONS
from keras_dtkd.losses.projected_features import ProjectedFeatureLoss, require_map


@keras.saving.register_keras_serializable("keras_dtkd")
class MGD(ProjectedFeatureLoss):
    """Generates the teacher's map from the student's, of which positions are dropped.

    For each level the mean or sum of `(G(f_s · M) − f_t)²` over channels and positions.
    M drops each position with probability `mask_ratio`, anew in each training step; G
    is a convolution of size 3, ReLU, and another one, to the teacher's width. They are
    trained with the student and saved with the Distiller; the student does not have
    them. Outside of training nothing is dropped.

    Args:
        features: Maps, see `FeatureLoss`.
        mask_ratio: λ, the probability that a position is dropped. From 0 to 1; may be
            changed while training runs.
        reduction: `"mean"`, or the authors' `"sum"`, which grows with the resolution: a
            weight for the sum is one for the mean once it is multiplied by
            channels · height · width of a level. See `published`.
        seed: Of the random numbers.
        **kwargs: `projector`, see `ProjectedFeatureLoss`; `weight` and more, see
            `DistillationLoss`.

    Raises:
        ValueError: A `mask_ratio` out of its range, an unknown `reduction`. Before the
            first step: features that are no maps.

    Reference:
        Yang et al., "Masked Generative Distillation", arXiv 2205.01529, section 3, and
        the authors' code, whose sum is divided by the batch alone.

    Example:

    >>> loss = MGD(["fpn[P3]", "fpn[P4]", "fpn[P5]"])
    >>> Distiller(teacher, student, loss).fit(images, {"boxes": b, "labels": c})
    """

    mask_ratio = Hyperparameter(minimum=0.0, maximum=1.0)

    def __init__(
        self, features, mask_ratio=0.65, reduction="mean", seed=None, **kwargs
    ):
        super().__init__(features, **kwargs)
        self.mask_ratio = mask_ratio
        self.reduction = check_choice("MGD", "reduction", reduction, REDUCTIONS)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.generators: list = []

    @classmethod
    def published(cls, features, weight=2e-5, mask_ratio=0.65, **kwargs):
        """The authors' form for RetinaNet and RepPoints on COCO, 1333 by 800 pixels.

        `reduction="sum"`. Their two-stage detectors have `weight=5e-7` and
        `mask_ratio=0.45`. Takes the other arguments of the class.
        """
        options = {"mask_ratio": mask_ratio, "reduction": "sum", "weight": weight}
        return cls(features, **options, **kwargs)

    def build_pair(self, names, teacher_shape):
        require_map(self.name, names, teacher_shape)
        width = teacher_shape[-1]
        options = {"padding": "same", "data_format": "channels_last"}
        convolutions = [
            keras.layers.Conv2D(width, 3, activation=each, dtype="float32", **options)
            for each in ("relu", None)
        ]
        generator = keras.Sequential(convolutions)
        generator.build((None, *teacher_shape[1:]))
        self.generators.append(generator)

    def compare_in_step(self, step, student, teacher, number, weights, masks):
        student = self.project(student, teacher, number)
        if step.training:
            draws = keras.random.uniform(
                (*ops.shape(student)[:-1], 1), dtype="float32", seed=self.seed_generator
            )
            is_kept = draws >= self.hyperparameter("mask_ratio")
            student = ops.where(is_kept, student, 0.0)
        squares = (self.generators[number](student) - teacher) ** 2
        reduce = ops.mean if self.reduction == "mean" else ops.sum
        return reduce(squares, axis=(1, 2, 3))
