"""The divergence split into its target and non-target components."""

import keras
from keras import ops

from keras_dtkd.core.arguments import check_in_range
from keras_dtkd.functional.decoupled import non_target_log_probs, target_log_probs
from keras_dtkd.functional.divergences import kl
from keras_dtkd.functional.labels import one_hot
from keras_dtkd.functional.statistics import soft_log_probs
from keras_dtkd.metrics.inputs import fill_ignored, row_weights, to_logits

COMPONENTS = ("target", "non_target", "weighted_non_target", "total")


@keras.saving.register_keras_serializable("keras_dtkd")
class TargetNonTargetSplit(keras.metrics.Metric):
    """Splits the divergence of the student from the teacher at the target class.

    The result is a dict of means over all samples, in nats:

    - `target`: `KL(b_t ‖ b_s)` of `b = (p_y, 1 − p_y)` (TCKD).
    - `non_target`: `KL(p̂_t ‖ p̂_s)` of the renormalized other classes (NCKD).
    - `weighted_non_target`: `(1 − p_t,y) · KL(p̂_t ‖ p̂_s)`, small if the teacher is
      confident.
    - `total`: `KL(p_t ‖ p_s)`, the sum of `target` and `weighted_non_target`.

    With two classes, both non-target components are 0. A mask on the student's logits
    is applied. A sample without a label (such as -1) is ignored; the target of a soft
    label is its most probable class.

    Args:
        temperature: A positive number for both models. There is no factor T².
        name: Name of the metric.
        dtype: Dtype of the computation.

    Raises:
        ValueError: `temperature` is not a finite positive number.

    Reference:
        Zhao et al., "Decoupled Knowledge Distillation", arXiv 2203.08679, equations 4
        to 6, computed in log space; the authors' code of the loss subtracts 1000 from
        the logit of the target.

    Example:

    >>> split = TargetNonTargetSplit(temperature=4.0)
    >>> split.update_state(y, (teacher.predict(x), student.predict(x)))
    >>> split.result()["non_target"]
    """

    # Cannot be compiled: `y_true` would be labels instead of teacher outputs.
    requires_teacher_outputs = True

    def __init__(self, temperature=1.0, name="target_non_target_split", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.temperature = check_in_range(
            "TargetNonTargetSplit", "temperature", temperature, 0
        )
        self.means = [keras.metrics.Mean(name=n, dtype=dtype) for n in COMPONENTS]

    def update_state(self, labels, logits, sample_weight=None):
        """Accumulates a batch.

        Args:
            labels: Integers `(batch, ...)` or `(batch, ..., 1)`, or one-hot.
            logits: `(teacher_logits, student_logits)`, each `(batch, ..., classes)`.
            sample_weight: `(batch,)` or `(batch, ...)`. Optional.
        """
        weights = row_weights(logits[1], sample_weight)
        teacher, student = (to_logits(fill_ignored(z, weights)) for z in logits)
        label = one_hot(labels, student)
        weights = weights * ops.sum(label, axis=-1)
        teacher, student = (fill_ignored(z, weights) for z in (teacher, student))
        t = self.temperature
        teacher_target = target_log_probs(teacher, t, label)
        student_target = target_log_probs(student, t, label)
        non_target = kl(
            non_target_log_probs(teacher, t, label),
            non_target_log_probs(student, t, label),
        )
        values = (
            kl(teacher_target, student_target),
            non_target,
            ops.exp(teacher_target[..., 1]) * non_target,
            kl(soft_log_probs(teacher, t), soft_log_probs(student, t)),
        )
        for mean, value in zip(self.means, values, strict=True):
            mean.update_state(value, weights)

    def result(self):
        """Returns a dict of scalars, all 0 without samples."""
        return {mean.name: mean.result() for mean in self.means}

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}
