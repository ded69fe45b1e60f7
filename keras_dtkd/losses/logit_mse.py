"""Mean squared error of raw logits."""

import keras
from keras import ops

from keras_dtkd.functional.statistics import MASKED_LOGIT, center
from keras_dtkd.losses.base import DistillationLoss
from keras_dtkd.losses.requirements import check_uncentered


def valid_classes(*logits):
    """Classes that none of these logits masks out.

    Args:
        *logits: `(..., classes)` each.

    Returns:
        Booleans, `(..., classes)`. NaN is not a mask, so that a diverged model gives a
        NaN loss.
    """
    masked = ops.less_equal(logits[0], MASKED_LOGIT)
    for others in logits[1:]:
        masked = ops.logical_or(masked, ops.less_equal(others, MASKED_LOGIT))
    return ops.logical_not(masked)


def masked_difference(student_logits, target_logits, where, centered=False):
    """Student logits minus target logits.

    Args:
        student_logits: `(..., classes)`.
        target_logits: `(..., classes)`.
        where: Booleans: the classes to include. The result is 0 for the others.
        centered: Whether to subtract each sample's mean difference.

    Returns:
        `(..., classes)`.
    """
    # Both sides are made finite first: the gradient of inf - inf is NaN.
    student_logits = ops.where(where, student_logits, 0.0)
    difference = student_logits - ops.where(where, target_logits, 0.0)
    return center(difference, where=where) if centered else difference


@keras.saving.register_keras_serializable("keras_dtkd")
class LogitMSE(DistillationLoss):
    """The mean over the classes of `(z_s − z_t)²`, for each sample.

    It compares raw logits, by definition: a constant added to all logits of a sample
    changes it, and the student learns the teacher's constant too. With `centered=True`
    each sample's mean over the classes is subtracted from both first. Logits recovered
    from a softmax are known up to that constant only, and need it.
    `LogitMSE(weight=0.5, centered=True)` is the limit of `KD(T)` as T grows.

    The gradient has the scale of the teacher's logits: tune the learning rate to it.

    Args:
        weight: Factor of this loss in the total. Not negative.
        warmup_epochs: See `DistillationLoss`.
        centered: Whether to compare logits minus their mean over the classes.

    Call arguments:
        student_logits: `(batch, ..., classes)`.
        teacher_logits: `(batch, ..., classes)`.
        labels: Unused.

    Returns:
        One value per sample, of shape `(batch, ...)`. Classes that either model masks
        out (by a logit of `-1e8` or less) are ignored.

    Raises:
        ValueError: A negative weight.

    Reference:
        Ba and Caruana, "Do Deep Nets Really Need to be Deep?", arXiv 1312.6184,
        section 2.2, use half the sum over the classes. The limit: Hinton, Vinyals
        and Dean, arXiv 1503.02531, section 2.1.

    Example:

    >>> Distiller(teacher, student, LogitMSE(weight=0.1)).fit(x, y)
    """

    def __init__(self, weight=1.0, warmup_epochs=0, centered=False, **kwargs):
        super().__init__(weight=weight, warmup_epochs=warmup_epochs, **kwargs)
        self.centered = bool(centered)

    def call(self, student_logits, teacher_logits, labels=None):
        where = valid_classes(student_logits, teacher_logits)
        error = masked_difference(student_logits, teacher_logits, where, self.centered)
        count = ops.sum(ops.cast(where, error.dtype), axis=-1)
        return ops.sum(error * error, axis=-1) / ops.maximum(count, 1.0)

    def issues(self, context):
        """Adds a comparison of raw logits that are not known, see `FitHooks`."""
        return [*super().issues(context), *check_uncentered(self, context)]
