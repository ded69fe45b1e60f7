"""Distillation of the boxes of a dense detector, anchor by anchor."""

import math

import keras
from keras import ops

from keras_dtkd.core.arguments import check_choice, check_in_range
from keras_dtkd.core.issue import ERROR, Issue
from keras_dtkd.core.logits import select_output
from keras_dtkd.functional.norms import absolute
from keras_dtkd.losses.base import DistillationLoss
from keras_dtkd.losses.binary_kd import logits_of_labels
from keras_dtkd.losses.reduction import normalize_per_sample

DISTANCES = "smooth_l1", "l1", "giou"
# Largest logarithm of a width, in widths of the anchor, as usual in decoding boxes.
MAX_LOG_SIZE = math.log(1000.0 / 16)


@keras.saving.register_keras_serializable("keras_dtkd")
class DenseBoxKD(DistillationLoss):
    """The distance of the boxes of a dense detector, where the teacher is sure.

    An anchor counts where the teacher's best class reaches a threshold: boxes of
    background mean nothing. With d the distance of its two boxes, the loss of an image
    is the mean of d over such anchors; 0 without any. Each image counts by its sample
    weight alone.

    Boxes are compared as the models give them, relative to their anchor:
    `(x, y, log w, log h)`, in units of the anchor's size.

    Args:
        output: Name of the box output.
        class_output: Name or index of the class output.
        threshold: Least probability of the teacher's best class, in [0, 1]. `None` for
            the teacher's own, below which it detects nothing:
            `teacher.prediction_decoder.confidence_threshold`.
        distance: `"smooth_l1"` (Huber, δ = 1) or `"l1"`, the means over the four
            numbers; or `"giou"`, `1 − GIoU` of the decoded boxes, from 0 to 2, which
            is the same for every size of the anchor.
        **kwargs: `weight`, `warmup_epochs` and more, see `DistillationLoss`.

    Returns:
        From a `Step`, `(batch, anchors)`. Their mean over the anchors is the loss of an
        image.

    Raises:
        ValueError: An unknown `distance`, a `threshold` out of its range; before the
            first step, outputs that are no boxes of the anchors.

    Reference:
        Mehta and Ozturk, "Object detection at 200 Frames Per Second", arXiv
        1805.06361, section 4, weigh each box by the teacher's objectness, which we cut
        off instead: the boxes of many unsure anchors outweigh those of few sure ones.
        GIoU: Rezatofighi et al., arXiv 1902.09630. `1 − IoU` of the teacher's and the
        student's boxes: Yang et al. (BCKD), arXiv 2308.14286.

    Example:

    >>> losses = [DenseClassKD(), DenseBoxKD(threshold=0.3, distance="giou")]
    >>> Distiller(teacher, student, losses).fit(images, {"boxes": b, "labels": c})
    """

    # Of the step, the classes are the logits: they choose the anchors.
    multilabel = True
    compares_classes = True
    compares_boxes = True

    def __init__(
        self,
        output="bbox_regression",
        class_output="cls_logits",
        threshold=None,
        distance="smooth_l1",
        **kwargs,
    ):
        super().__init__(output=class_output, **kwargs)
        if threshold is not None:
            check_in_range("DenseBoxKD", "threshold", threshold, 0, 1, inclusive=True)
        self.box_output, self.threshold = output, threshold
        self.distance = check_choice("DenseBoxKD", "distance", distance, DISTANCES)

    def compute(self, step):
        names = getattr(step.student, "output_names", None)
        student = select_output(step.student_outputs, self.box_output, names)
        names = getattr(step.teacher, "output_names", None)
        teacher = select_output(step.teacher_outputs, self.box_output, names)
        logits = logits_of_labels(step.teacher_logits, step.student_outputs)
        confidence = ops.max(ops.sigmoid(logits), axis=-1)
        is_sure = confidence >= self.find_threshold(step.teacher)
        weights = normalize_per_sample(ops.cast(is_sure, "float32"))
        student, teacher = (ops.cast(boxes, "float32") for boxes in (student, teacher))
        return weights * box_distance(student, teacher, self.distance)

    def find_threshold(self, teacher):
        """`threshold`, or the teacher's own; `None` where it has none."""
        if self.threshold is not None:
            return self.threshold
        decoder = getattr(teacher.model, "prediction_decoder", None)
        return getattr(decoder, "confidence_threshold", None)

    def issues(self, context):
        """Adds a missing threshold, and outputs that are no boxes of the anchors."""
        issues, name = super().issues(context), context.name_of(self)
        if self.find_threshold(context.teacher) is None:
            message = (
                f"`Distiller`: `{name}` takes the teacher's own confidence threshold, "
                "and the teacher has no `prediction_decoder` with one."
            )
            issues.append(
                Issue("no_threshold", ERROR, message, "Give it: `threshold=0.5`.")
            )
        for spec in context.specs_of(self):
            if spec is not None:
                issues += _check_boxes(name, spec, self.box_output)
        return issues

    def get_config(self):
        return {
            **super().get_config(),
            "output": self.box_output,
            "class_output": self.distilled_output,
            "threshold": self.threshold,
            "distance": self.distance,
        }


def _check_boxes(name, spec, box_output):
    """A box output that a model lacks, or that is not of the class output's anchors."""
    shape = spec.shapes.get(box_output)
    if shape is None:
        known = ", ".join(map(repr, spec.shapes))
        message = f"`Distiller`: the {spec.role} has no output {box_output!r}."
        hint = f"`output=` of `{name}` may be: {known}."
        yield Issue("unknown_output", ERROR, message, hint)
    elif shape[1:] != (*spec.shape[1:-1], 4):
        message = (
            f"`Distiller`: `{name}` compares a box of each anchor, `(batch, anchors, "
            f"4)`, and the {spec.role}'s output {box_output!r} has the shape {shape} "
            f"for classes of the shape {spec.shape}."
        )
        hint = "Choose the outputs with `output=` and `class_output=`."
        yield Issue("no_boxes", ERROR, message, hint)


def box_distance(student, teacher, distance):
    """The distance of boxes relative to the same anchors.

    Args:
        student, teacher: `(..., 4)`: center, and logarithm of the size, in units of the
            anchor's size.
        distance: One of `DISTANCES`, see `DenseBoxKD`.

    Returns:
        `(...)`. Value and gradient are 0 for equal boxes.
    """
    if distance == "giou":
        return 1.0 - _giou(student, teacher)
    gap = absolute(student - teacher)
    if distance == "smooth_l1":
        gap = ops.where(gap < 1.0, 0.5 * gap * gap, gap - 0.5)
    return ops.mean(gap, axis=-1)


def _giou(*boxes):
    """Generalized intersection over union. It is that of any anchor's decoded boxes."""
    centers = [box[..., :2] for box in boxes]
    sizes = [ops.exp(ops.clip(b[..., 2:], -MAX_LOG_SIZE, MAX_LOG_SIZE)) for b in boxes]
    pairs = list(zip(centers, sizes, strict=True))
    lows, highs = ([c + sign * s / 2 for c, s in pairs] for sign in (-1, 1))
    overlap = ops.maximum(ops.minimum(*highs) - ops.maximum(*lows), 0.0)
    hull = ops.prod(ops.maximum(*highs) - ops.minimum(*lows), axis=-1)
    areas = [ops.prod(size, axis=-1) for size in sizes]
    intersection = ops.prod(overlap, axis=-1)
    union = areas[0] + areas[1] - intersection
    return intersection / union - (hull - union) / hull
