"""Focal and global distillation: features of detectors, by the boxes of the objects."""

import keras
from keras import ops

from keras_dtkd.core.arguments import check_choice
from keras_dtkd.core.boxes import BOX_FORMATS
from keras_dtkd.core.hyperparameters import Hyperparameter
from keras_dtkd.functional.norms import absolute
from keras_dtkd.losses.box_masks import (
    compute_box_masks,
    find_box_issues,
    get_relative_boxes,
)
from keras_dtkd.losses.context_block import ContextBlock
from keras_dtkd.losses.feature_mse import REDUCTIONS
from keras_dtkd.losses.projected_features import ProjectedFeatureLoss, require_map


@keras.saving.register_keras_serializable("keras_dtkd")
class FGD(ProjectedFeatureLoss):
    """Matches the maps of detectors where objects are, elsewhere, and in their context.

    For each level `α · foreground + β · background + γ · attention + λ · relation`:

    - foreground and background: `Σ M S C (f_s − f_t)²`, with the teacher's spatial
      attention `S = H W softmax(mean_c |f_t| / τ)` and its channel attention
      `C = channels · softmax(mean_hw |f_t| / τ)`. M is `1 / ((h + 1)(w + 1))` within
      the box of an object, of several the greatest, from the cell of the box's first
      corner to the one after its last; or the same everywhere outside, with the sum 1.
    - attention: `|S_s − S_t| + |C_s − C_t|`.
    - relation: `(R(f_s) − R'(f_t))²`, with a `ContextBlock` each. They are trained with
      the student and saved with the Distiller; the student does not have them.

    Labels are a detector's: `{"boxes": (batch, boxes, 4), "labels": (batch, boxes)}`,
    with labels below 0 where there is no box.

    Args:
        features: Maps, see `FeatureLoss`: `["fpn[P3]", "fpn[P4]"]`.
        alpha: Factor α of the foreground. Not negative, like all four; they may be
            changed while training runs.
        beta: Factor β of the background.
        gamma: Factor γ of the attention.
        lambda_: Factor λ of the relation.
        temperature: τ of the attention. Positive.
        reduction: `"mean"` over what the authors add: over the channels in foreground
            and background, over each attention, over channels and positions in the
            relation. `"sum"` is their form, see `published`. Factors for the sum are
            those for the mean once they are multiplied by the number of channels (α,
            β), channels or height · width (γ), channels · height · width (λ) of a
            level. The defaults are near the published ones so carried over at 1333 by
            800 pixels, λ's at level P5.
        bounding_box_format: Of the boxes, as Keras names it. `"auto"`: the student's
            `bounding_box_format`.
        **kwargs: `projector`, see `ProjectedFeatureLoss`; `weight` and more, see
            `DistillationLoss`.

    Raises:
        ValueError: A negative factor, an unknown `reduction`. Before the first step:
            no boxes among the labels, or of another format; features that are no maps,
            a view.

    Reference:
        Yang et al., "Focal and Global Knowledge Distillation for Detectors", arXiv
        2111.11837, section 3, and the authors' code, where alone are the masks' `+ 1`.
        An early version of it exchanged height and width in the masks; we do not.

    Example:

    >>> loss = FGD(["fpn[P3]", "fpn[P4]", "fpn[P5]"])
    >>> Distiller(teacher, student, loss).fit(images, {"boxes": b, "labels": c})
    """

    needs_labels = True
    alpha = Hyperparameter(minimum=0.0)
    beta = Hyperparameter(minimum=0.0)
    gamma = Hyperparameter(minimum=0.0)
    lambda_ = Hyperparameter(minimum=0.0)
    temperature = Hyperparameter(greater_than=0.0)

    def __init__(
        self,
        features,
        alpha=0.25,
        beta=0.125,
        gamma=0.25,
        lambda_=1.0,
        temperature=0.5,
        reduction="mean",
        bounding_box_format="auto",
        **kwargs,
    ):
        super().__init__(features, **kwargs)
        self.alpha, self.beta, self.gamma, self.lambda_ = alpha, beta, gamma, lambda_
        self.temperature = temperature
        self.reduction = check_choice("FGD", "reduction", reduction, REDUCTIONS)
        self.bounding_box_format = check_choice(
            *("FGD", "bounding_box_format", bounding_box_format),
            ("auto", *BOX_FORMATS),
        )
        # Of the student and the teacher, for each pair.
        self.student_blocks: list = []
        self.teacher_blocks: list = []

    @classmethod
    def published(
        cls, features, alpha=1e-3, beta=5e-4, gamma=5e-4, lambda_=5e-6, **kwargs
    ):
        """The authors' form for RetinaNet on COCO, 1333 by 800 pixels.

        `reduction="sum"`. For RepPoints the factors are 1.6e-3, 8e-4, 8e-4 and 8e-6,
        for Mask R-CNN 5e-5, 2.5e-5, 5e-5 and 5e-7. Takes the other arguments of the
        class.
        """
        factors = {"alpha": alpha, "beta": beta, "gamma": gamma, "lambda_": lambda_}
        return cls(features, **factors, reduction="sum", **kwargs)

    def issues(self, context):
        """Adds boxes that show another format than stated."""
        boxes = find_box_issues(
            context.name_of(self), context, self.bounding_box_format
        )
        return [*super().issues(context), *boxes]

    def build_pair(self, names, teacher_shape):
        require_map(self.name, names, teacher_shape)
        for side in ("student", "teacher"):
            block = ContextBlock(dtype="float32", name=f"{side}_context")
            block.build(teacher_shape)
            getattr(self, f"{side}_blocks").append(block)

    def compare_in_step(self, step, student, teacher, number, weights, masks):
        student = self.project(student, teacher, number)
        formats = self.bounding_box_format, self.data_formats[0]
        boxes = get_relative_boxes(self.name, step, *formats)
        foreground, background = compute_box_masks(*boxes, *ops.shape(teacher)[1:3])
        student_attention, attention = map(self._attention, (student, teacher))
        reduce = ops.mean if self.reduction == "mean" else ops.sum
        space, channels = attention
        squares = (student - teacher) ** 2 * channels[:, None, None]
        by_position = reduce(squares, axis=-1) * space
        gaps = (
            reduce(absolute(a - b), axis=tuple(range(1, len(a.shape))))
            for a, b in zip(student_attention, attention, strict=True)
        )
        blocks = self.student_blocks[number], self.teacher_blocks[number]
        relation = (blocks[0](student) - blocks[1](teacher)) ** 2
        parts = {
            "alpha": ops.sum(foreground * by_position, axis=(1, 2)),
            "beta": ops.sum(background * by_position, axis=(1, 2)),
            "gamma": sum(gaps),
            "lambda_": reduce(relation, axis=(1, 2, 3)),
        }
        return sum(self.hyperparameter(name) * part for name, part in parts.items())

    def _attention(self, feature):
        """Spatial and channel attention, `(batch, height, width)` and `(batch, c)`."""
        _, height, width, channels = ops.shape(feature)
        strength = absolute(feature) / self.hyperparameter("temperature")
        space = ops.reshape(ops.mean(strength, axis=-1), (-1, height * width))
        space = ops.cast(height * width, "float32") * ops.softmax(space, axis=-1)
        by_channel = channels * ops.softmax(ops.mean(strength, axis=(1, 2)), axis=-1)
        return ops.reshape(space, (-1, height, width)), by_channel
