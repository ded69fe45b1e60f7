"""Comparative Knowledge Distillation."""

import numbers

import keras
from keras import ops

from keras_dtkd.core.hyperparameters import Hyperparameter
from keras_dtkd.functional.labels import one_hot
from keras_dtkd.losses.base import DistillationLoss
from keras_dtkd.losses.logit_mse import present, residual


@keras.saving.register_keras_serializable("keras_dtkd")
class CKD(DistillationLoss):
    """Matches the differences between samples, for teachers that may be asked little.

    The authors draw two disjoint groups of p and q random samples, and compare the
    difference of the groups' mean logits between student and teacher, and with that
    of the labels. Averaged over all groups of a batch this is, with the residuals
    `d_i = z_s,i − z_t,i` and `e_i = z_s,i − onehot(y_i)`,

    `(1/p + 1/q) · (teacher_weight · Var(d) + label_weight · Var(e))`

    with the unbiased variance over the batch, averaged over the classes. That is what
    is computed here, plus `mean_penalty · ‖mean d‖² / classes`. So the groups' sizes
    are a scale, and no more. At equal weights the optimum lies midway between the
    teacher's logits and the one-hot labels.

    Raw logits, by definition. Three things follow:

    - A constant vector added to all samples' logits changes nothing: the output bias
      gets no gradient, though the answers depend on it. Call
      `calibrate_output_bias` after training, with `target`. Or set `mean_penalty`,
      say to 0.1, and `label_weight` to 0: it pulls to the teacher's mean, where labels
      have drawn the student's logits halfway to their own.
    - A constant added to the logits of one sample does count. With `centered=True`
      each sample's mean over the classes is taken out first. Logits that are
      recovered from a softmax head are known up to that constant only, and need it.
    - The teacher's scale is that of the gradient: tune the learning rate to it.

    The batch is coupled. The variance is unbiased: its expectation is the same for
    batches of any size, and so for each replica's share under `tf.distribute` and
    torch, but its noise is not (under JAX the batch is global). Rows are all axes but
    the classes: time steps, and the labels of a sigmoid head. Weights of samples count
    as frequencies, and where they sum to less than there are rows, as shares of them.
    Of one row there is no variance.

    Args:
        label_weight: Factor of the term of the labels. Not negative. At 0 labels
            are not needed.
        teacher_weight: Factor of the term of the teacher. Not negative.
        group: `(p, q)`, sizes of the authors' groups. Their default is (1, 1).
        mean_penalty: Factor of the squared mean residual. Not negative. It falls a
            little with the size of the batch: the mean of n samples is noisy.
        weight: Factor in the total. Not negative.
        warmup_epochs: See `DistillationLoss`.
        centered: Whether to take each sample's mean over the classes out of the
            residuals.

    Call arguments:
        student_logits: `(batch, ..., classes)`. Raw logits, not probabilities.
        teacher_logits: `(batch, ..., classes)`.
        labels: See `keras_dtkd.functional.labels.one_hot`. Rows without a label
            count nowhere in the term of the labels.
        sample_weight: `(batch, ...)`, see `DistillationLoss`.

    Returns:
        The same value for each sample, `(batch, ...)`. Classes that a row of either
        model masks out (by a logit of `-1e8` or less) count nowhere in that row.

    Raises:
        ValueError: A negative factor, a group that is no pair of positive whole
            numbers, missing labels.

    Reference:
        Wilf et al., "Comparative Knowledge Distillation", arXiv 2311.02253. The
        authors' code draws groups at random, and without labels' cross-entropy or
        any softmax: use `Distiller(..., task_weight=0.0)`. The closed form, the
        penalty and the calibration are ours.

    Example:

    >>> distiller = Distiller(teacher, student, CKD(), task_weight=0.0)
    >>> distiller.fit(x, y, epochs=100)
    >>> target = distiller.distillation_losses["ckd"].target(teacher_logits, y)
    >>> calibrate_output_bias(student, x, target)
    """

    label_weight = Hyperparameter(minimum=0.0)
    teacher_weight = Hyperparameter(minimum=0.0)
    mean_penalty = Hyperparameter(minimum=0.0)

    def __init__(
        self,
        label_weight=1.0,
        teacher_weight=1.0,
        group=(1, 1),
        mean_penalty=0.0,
        weight=1.0,
        warmup_epochs=0,
        centered=False,
        **kwargs,
    ):
        super().__init__(weight=weight, warmup_epochs=warmup_epochs, **kwargs)
        sizes = group if isinstance(group, list | tuple) else ()
        whole = [n for n in sizes if isinstance(n, numbers.Integral) and int(n) > 0]
        if not len(whole) == len(sizes) == 2:
            raise ValueError(
                "`CKD`: `group` must be two positive whole numbers. Received: "
                f"group={group!r}."
            )
        self.group = tuple(map(int, whole))
        self.label_weight = label_weight
        self.teacher_weight = teacher_weight
        self.mean_penalty = mean_penalty
        self.centered = bool(centered)

    @property
    def needs_labels(self):  # type: ignore[override]
        """Whether the labels count."""
        return self.label_weight > 0

    def call(self, student_logits, teacher_logits, labels=None, sample_weight=None):
        """The same value for each sample."""
        where = present(student_logits, teacher_logits)
        variance, mean = self._moments(
            student_logits, teacher_logits, where, sample_weight
        )
        scale = sum(1 / size for size in self.group)
        value = scale * self.hyperparameter("teacher_weight") * variance
        value = value + self.hyperparameter("mean_penalty") * mean
        if labels is not None:
            target = one_hot(labels, student_logits)
            labelled = ops.any(target > 0, axis=-1, keepdims=True)
            where = ops.logical_and(present(student_logits), labelled)
            variance, _ = self._moments(student_logits, target, where, sample_weight)
            value = value + scale * self.hyperparameter("label_weight") * variance
        elif self.needs_labels:
            raise ValueError(
                "`CKD` needs labels, and there are none. Pass them, or set "
                "`label_weight=0.0`."
            )
        return value * ops.ones_like(student_logits[..., 0])

    def target(self, teacher_logits, labels=None):
        """Where the student's logits are at the optimum, up to the vector they share.

        Args:
            teacher_logits: `(batch, ..., classes)`.
            labels: As in a call; needed where `label_weight` is not 0.

        Returns:
            The mean of the teacher's logits and the one-hot labels by their weights,
            a float32 tensor of the logits' shape. Without a label, the teacher's.
        """
        teacher_logits = ops.cast(teacher_logits, "float32")
        if not self.needs_labels:
            return teacher_logits
        if labels is None:
            raise ValueError(
                "`CKD.target` needs labels: `label_weight` is not 0. Pass those it was "
                "trained with."
            )
        hot = one_hot(labels, teacher_logits)
        share = self.label_weight / (self.label_weight + self.teacher_weight)
        share = share * ops.cast(ops.any(hot > 0, axis=-1, keepdims=True), "float32")
        return teacher_logits + share * (hot - teacher_logits)

    def _moments(self, student_logits, target_logits, where, sample_weight):
        """Variance of the residuals and their squared mean, averaged over classes."""
        d = residual(student_logits, target_logits, where, self.centered)
        mass = ops.cast(where, d.dtype)
        if sample_weight is not None:
            mass = mass * sample_weight[..., None]
        rows = tuple(range(len(d.shape) - 1))
        total = ops.sum(mass, axis=rows)
        mean = ops.sum(mass * d, axis=rows) / ops.where(total > 0, total, 1.0)
        squares = ops.sum(mass * (d - mean) ** 2, axis=rows)
        # Weights of a half say how much a row counts, not that there are fewer rows.
        count = ops.maximum(total, ops.sum(ops.cast(mass > 0, d.dtype), axis=rows))
        enough = count > 1
        bessel = ops.where(enough, count / ops.where(enough, count - 1, 1.0), 0.0)
        variance = bessel * squares / ops.where(total > 0, total, 1.0)
        classes = ops.maximum(ops.sum(ops.cast(total > 0, d.dtype)), 1.0)
        return ops.sum(variance) / classes, ops.sum(mean**2) / classes

    def get_config(self):
        """The arguments that make this loss again."""
        return {
            **super().get_config(),
            "label_weight": self.label_weight,
            "teacher_weight": self.teacher_weight,
            "group": list(self.group),
            "mean_penalty": self.mean_penalty,
            "centered": self.centered,
        }
