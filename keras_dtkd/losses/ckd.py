"""Comparative Knowledge Distillation."""

import keras
from keras import ops

from keras_dtkd.core.arguments import check_positive_ints
from keras_dtkd.core.hyperparameters import Hyperparameter
from keras_dtkd.functional.labels import one_hot
from keras_dtkd.losses.logit_mse import RawLogitLoss, valid_classes


@keras.saving.register_keras_serializable("keras_dtkd")
class CKD(RawLogitLoss):
    """Matches differences between samples, for few calls of the teacher.

    The authors draw two disjoint groups of p and q random samples, and compare the
    difference of the groups' mean logits between student and teacher, and between
    student and labels. Averaged over all groups of a batch this is, with the residuals
    `d_i = z_s,i − z_t,i` and `e_i = z_s,i − onehot(y_i)`,

    `(1/p + 1/q) · (teacher_weight · Var(d) + label_weight · Var(e))`

    with the unbiased variance over the batch, averaged over the classes. The loss is
    this closed form plus `mean_penalty · ‖mean d‖² / classes`. The group sizes are only
    a scale. At equal weights the optimum lies midway between the teacher's logits
    and the one-hot labels.

    It compares raw logits, by definition, which has three consequences:

    - A constant vector added to all samples' logits changes nothing: the output bias
      gets no gradient, although the predictions depend on it. Call
      `calibrate_output_bias` after training, with `optimal_logits`. Or set
      `mean_penalty`, for example to 0.1, and `label_weight` to 0: the penalty pulls to
      the teacher's mean, while labels pull the student's logits halfway to theirs.
    - A constant added to the logits of one sample does change it, see `LogitMSE`.
    - The gradient has the scale of the teacher's logits: tune the learning rate to it.

    The loss couples the samples of a batch. The variance is unbiased: its expectation
    does not depend on the batch size, but its noise does. It is taken over all axes
    except the classes: samples, time steps, and the labels of a multi-label output.
    Sample weights count as frequencies; where they sum to less than the number of
    samples, they count as shares. A single sample has no variance.

    Args:
        label_weight: Factor of the label term. Not negative. At 0 labels are not
            needed.
        teacher_weight: Factor of the teacher term. Not negative.
        group_sizes: `(p, q)`, sizes of the authors' groups. Their default is (1, 1).
        mean_penalty: Factor of the squared mean residual. Not negative. Its
            expectation falls slightly with the batch size: the mean of n samples is
            noisy.
        centered: Whether to subtract each sample's mean over the classes from the
            residuals. False by default.
        **kwargs: `weight`, `warmup_epochs` and more, see `DistillationLoss`.

    Call arguments:
        student_logits, teacher_logits: `(batch, ..., classes)`, raw logits.
        labels: See `keras_dtkd.functional.labels.one_hot`. Samples without a label
            are excluded from the label term.
        sample_weight: `(batch, ...)`, see `DistillationLoss`.

    Returns:
        The same value for each sample, `(batch, ...)`. Classes that either model masks
        out for a sample (by a logit of `-1e8` or less) are ignored in that sample.

    Raises:
        ValueError: A negative factor, `group_sizes` that are not two integers of at
            least 1, missing labels.

    Reference:
        Wilf et al., "Comparative Knowledge Distillation", arXiv 2311.02253. The
        authors' code draws groups at random, and has neither the labels'
        cross-entropy nor a softmax: use `Distiller(..., task_weight=0.0)`. The closed
        form, the penalty and the calibration are ours.

    Example:

    >>> distiller = Distiller(teacher, student, CKD(), task_weight=0.0)
    >>> distiller.fit(x, y, epochs=100)
    >>> target = distiller.distillation_losses["ckd"].optimal_logits(teacher_logits, y)
    >>> calibrate_output_bias(student, x, target)
    """

    label_weight = Hyperparameter(minimum=0.0)
    teacher_weight = Hyperparameter(minimum=0.0)
    mean_penalty = Hyperparameter(minimum=0.0)
    compares_classes = True
    min_batch_size = 2

    def __init__(
        self,
        label_weight=1.0,
        teacher_weight=1.0,
        group_sizes=(1, 1),
        mean_penalty=0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.group_sizes = check_positive_ints("CKD", "group_sizes", group_sizes, 2)
        self.label_weight = label_weight
        self.teacher_weight = teacher_weight
        self.mean_penalty = mean_penalty

    @property
    def needs_labels(self):  # type: ignore[override]
        return self.label_weight > 0

    def call(self, student_logits, teacher_logits, labels=None, sample_weight=None):
        where = valid_classes(student_logits, teacher_logits)
        variance, mean = self._variance_and_mean(
            student_logits, teacher_logits, where, sample_weight
        )
        scale = sum(1 / size for size in self.group_sizes)
        value = scale * self.hyperparameter("teacher_weight") * variance
        value = value + self.hyperparameter("mean_penalty") * mean
        if labels is not None:
            target = one_hot(labels, student_logits)
            has_label = ops.any(target > 0, axis=-1, keepdims=True)
            where = ops.logical_and(valid_classes(student_logits), has_label)
            variance, _ = self._variance_and_mean(
                student_logits, target, where, sample_weight
            )
            value = value + scale * self.hyperparameter("label_weight") * variance
        elif self.needs_labels:
            raise ValueError(
                "`CKD` needs labels. Received: labels=None. Pass them, or set "
                "`label_weight=0.0`."
            )
        return value * ops.ones_like(student_logits[..., 0])

    def optimal_logits(self, teacher_logits, labels=None):
        """Student logits that minimize this loss, up to a vector common to all samples.

        Args:
            teacher_logits: `(batch, ..., classes)`.
            labels: As in `call`; a `ValueError` without, unless `label_weight` is 0.

        Returns:
            The mean of the teacher's logits and the one-hot labels, weighted by
            `teacher_weight` and `label_weight`: a float32 tensor of the logits' shape.
            For a sample without a label, the teacher's logits.
        """
        teacher_logits = ops.cast(teacher_logits, "float32")
        if not self.needs_labels:
            return teacher_logits
        if labels is None:
            raise ValueError(
                "`CKD.optimal_logits` needs labels: `label_weight` is not 0. Pass the "
                "labels of the training data."
            )
        target = one_hot(labels, teacher_logits)
        has_label = ops.any(target > 0, axis=-1, keepdims=True)
        label_share = self.label_weight / (self.label_weight + self.teacher_weight)
        label_share = label_share * ops.cast(has_label, "float32")
        return teacher_logits + label_share * (target - teacher_logits)

    def _variance_and_mean(self, student_logits, target_logits, where, sample_weight):
        """Variance of the residuals and their squared mean, averaged over classes."""
        d = self.difference(student_logits, target_logits, where)
        weights = ops.cast(where, d.dtype)
        if sample_weight is not None:
            weights = weights * sample_weight[..., None]
        axes = tuple(range(len(d.shape) - 1))
        total = ops.sum(weights, axis=axes)
        divisor = ops.where(total > 0, total, 1.0)
        mean = ops.sum(weights * d, axis=axes) / divisor
        squares = ops.sum(weights * (d - mean) ** 2, axis=axes)
        # A weight of 1/2 scales a sample; it does not make it half a sample.
        count = ops.maximum(total, ops.sum(ops.cast(weights > 0, d.dtype), axis=axes))
        has_variance = count > 1
        bessel = count / ops.where(has_variance, count - 1, 1.0)
        variance = ops.where(has_variance, bessel, 0.0) * squares / divisor
        num_classes = ops.maximum(ops.sum(ops.cast(total > 0, d.dtype)), 1.0)
        return ops.sum(variance) / num_classes, ops.sum(mean**2) / num_classes
