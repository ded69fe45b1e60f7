"""Mean squared error of raw logits."""

import keras
from keras import ops

from keras_dtkd.core.issue import WARNING, Issue
from keras_dtkd.core.logits import OutputKind
from keras_dtkd.functional.statistics import MASKED_LOGIT, center
from keras_dtkd.losses.base import DistillationLoss


def valid_classes(*logits):
    """Classes that none of these logits `(..., classes)` masks out, booleans.

    NaN is not a mask, so that a diverged model gives a NaN loss.
    """
    masked = [ops.less_equal(z, MASKED_LOGIT) for z in logits]
    return ops.logical_not(ops.any(ops.stack(masked), axis=0))


class RawLogitLoss(DistillationLoss):
    """Base of the losses that compare raw logits, minus their mean if `centered`."""

    def __init__(self, weight=1.0, warmup_epochs=0, centered=False, **kwargs):
        super().__init__(weight, warmup_epochs, **kwargs)
        self.centered = bool(centered)

    def difference(self, student_logits, target_logits, where):
        """Student logits minus target logits, 0 for classes outside of `where`."""
        # Both sides are made finite first: the gradient of inf - inf is NaN.
        student_logits = ops.where(where, student_logits, 0.0)
        difference = student_logits - ops.where(where, target_logits, 0.0)
        return center(difference, where=where) if self.centered else difference

    def issues(self, context):
        """Adds a comparison of raw logits where those of one model are not known."""
        issues = super().issues(context)
        specs = context.specs_of(self)
        if self.centered or None in specs:
            return issues
        softmax = [s.role for s in specs if s.output_kind == OutputKind.SOFTMAX]
        if len(softmax) == 1:
            message = (
                f"`{context.name_of(self)}` compares raw logits, and those of the "
                f"{softmax[0]}, which ends in a softmax, are known up to a constant of "
                "each sample only."
            )
            hint = "Set `centered=True`."
            issues.append(Issue("uncentered_softmax", WARNING, message, hint))
        return issues


@keras.saving.register_keras_serializable("keras_dtkd")
class LogitMSE(RawLogitLoss):
    """The mean over the classes of `(z_s − z_t)²`, for each sample.

    It compares raw logits, by definition: a constant added to all logits of a sample
    changes it, and the student learns the teacher's constant too. With `centered=True`
    each sample's mean over the classes is subtracted from both first. Logits recovered
    from a softmax are known up to that constant only, and need it.
    `LogitMSE(weight=0.5, centered=True)` is the limit of `KD(T)` as T grows.

    The gradient has the scale of the teacher's logits: tune the learning rate to it.

    Args:
        weight: See `DistillationLoss`, like `warmup_epochs`.
        centered: Whether to compare logits minus their mean over the classes.

    Call arguments:
        student_logits, teacher_logits: `(batch, ..., classes)`.

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

    def call(self, student_logits, teacher_logits, labels=None):
        where = valid_classes(student_logits, teacher_logits)
        error = self.difference(student_logits, teacher_logits, where)
        count = ops.sum(ops.cast(where, error.dtype), axis=-1)
        return ops.sum(error * error, axis=-1) / ops.maximum(count, 1.0)
