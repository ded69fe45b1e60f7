"""Distillation of the classes of a dense detector, anchor by anchor."""

import keras
from keras import ops

from keras_dtkd.core.arguments import check_in_range
from keras_dtkd.losses.base import LossValues
from keras_dtkd.losses.binary_kd import BinaryKD
from keras_dtkd.losses.reduction import normalize_per_sample


@keras.saving.register_keras_serializable("keras_dtkd")
class DenseClassKD(BinaryKD):
    """`BinaryKD` of the anchors of a dense detector, where the teacher is sure.

    Almost all anchors are background. An anchor a counts by the teacher's confidence
    `S_a = (max_c sigmoid(z_t))^power`, at temperature 1. With D of one anchor and class
    the `w · KL(p ‖ q)` of `BinaryKD`, the loss of an image is

    `Σ_a S_a Σ_c D_ac / Σ_a S_a`

    so that its size depends neither on the number of anchors nor on that of objects,
    and each image counts by its sample weight alone. An image in which the teacher's
    confidence is 0 everywhere has a loss of 0.

    Args:
        temperature: A positive number or a `Temperature`, see `TemperatureLoss`.
        power: Exponent of the teacher's confidence. 0 for all anchors alike. Not
            negative.
        output: Name or index of the class output, see `DistillationLoss`.
        **kwargs: `weight`, `warmup_epochs` and more, see `DistillationLoss`.

    Call arguments:
        student_logits, teacher_logits: `(batch, anchors, classes)`: one logit for each
            class, of the same anchors in the same order.

    Returns:
        `(batch, anchors)`, in nats times the temperature's weight. Their mean over the
        anchors is the loss of an image.

    Raises:
        ValueError: A temperature not above 0, a negative `power` or weight.

    Reference:
        Du et al., "Distilling Object Detectors with Feature Richness" (FRS), NeurIPS
        2021, arXiv 2111.00674, the loss of the classification head. There the weight is
        that of a position, the greatest of its anchors; each level of the pyramid is
        normalized by itself, over the batch, and the levels are added; and the
        divergence is the binary cross-entropy, larger by the teacher's entropy. The
        authors' weight for RetinaNet is 0.02, for that sum over five levels.

    Example:

    >>> losses = [DenseClassKD(output="cls_logits"), DenseBoxKD()]
    >>> Distiller(teacher, student, losses).fit(images, {"boxes": b, "labels": c})
    """

    def __init__(self, temperature=1.0, power=1.0, output="cls_logits", **kwargs):
        super().__init__(temperature, output=output, **kwargs)
        self.power = check_in_range("DenseClassKD", "power", power, 0, inclusive=True)

    def compute_loss_values(
        self, student_logits, teacher_logits, labels, sample_weight
    ):
        values, _, temperatures = self.compute_label_values(
            student_logits, teacher_logits, sample_weight
        )
        confidence = ops.max(ops.sigmoid(teacher_logits), axis=-1) ** self.power
        confidence = ops.stop_gradient(confidence)
        weights = normalize_per_sample(confidence, sample_weight)
        return LossValues(weights * ops.sum(values, axis=-1), temperatures)
