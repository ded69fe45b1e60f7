"""Which part of the divergence is about the label, and which about the rest."""

import keras
from keras import ops

from keras_dtkd.functional.decoupled import non_target_log_probs, target_log_probs
from keras_dtkd.functional.divergences import kl
from keras_dtkd.functional.labels import one_hot
from keras_dtkd.functional.statistics import soft_log_probs
from keras_dtkd.metrics.inputs import check_temperature, row_weights, to_logits

PARTS = ("target", "non_target", "weighted_non_target", "total")


@keras.saving.register_keras_serializable("keras_dtkd")
class TargetNonTargetSplit(keras.metrics.Metric):
    """Splits the divergence of the student from the teacher at the label.

    The result is a dict of means over all samples seen, in nats:

    - `target`: `KL(b_t ‖ b_s)` of `b = (p_y, 1 − p_y)`, how sure of the label (TCKD).
    - `non_target`: `KL(p̂_t ‖ p̂_s)` of the other classes among themselves (NCKD).
    - `weighted_non_target`: `(1 − p_t,y) · KL(p̂_t ‖ p̂_s)`, which of a sure teacher
      leaves little.
    - `total`: `KL(p_t ‖ p_s)`, the sum of the first and the third.

    Of two classes the other one has nothing to share: both non-target parts are 0.
    A mask on the student's logits is honoured. A sample without a label (such as -1)
    counts nowhere; of a soft label the greatest class is taken.

    Args:
        temperature: A positive number for both models. There is no factor T².
        name: Its name.
        dtype: Of the computation.

    Raises:
        ValueError: `temperature` is no finite number above 0.

    Reference:
        Zhao et al., "Decoupled Knowledge Distillation", arXiv 2203.08679, equations 4
        to 6. In log space, where the authors' code of the loss subtracts 1000 from the
        label's logit.

    Example:

    >>> split = TargetNonTargetSplit(temperature=4.0)
    >>> split.update_state(y, (teacher.predict(x), student.predict(x)))
    >>> split.result()["non_target"]
    """

    # Not to be compiled: it would be given labels in the teacher's place.
    requires_teacher_outputs = True

    def __init__(self, temperature=1.0, name="target_non_target_split", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.temperature = check_temperature(self, temperature)
        self.means = [keras.metrics.Mean(name=part, dtype=dtype) for part in PARTS]

    def update_state(self, labels, logits, sample_weight=None):
        """Adds a batch.

        Args:
            labels: Integers `(batch, ...)` or `(batch, ..., 1)`, or one-hot.
            logits: The pair `(teacher_logits, student_logits)`, each
                `(batch, ..., classes)`.
            sample_weight: `(batch,)` or `(batch, ...)`. Optional.
        """
        teacher, student = map(to_logits, logits)
        label = one_hot(labels, student)
        mass = row_weights(logits[1], sample_weight) * ops.sum(label, axis=-1)
        t = self.temperature
        of_teacher = target_log_probs(teacher, t, label)
        of_student = target_log_probs(student, t, label)
        non_target = kl(
            non_target_log_probs(teacher, t, label),
            non_target_log_probs(student, t, label),
        )
        values = (
            kl(of_teacher, of_student),
            non_target,
            ops.exp(of_teacher[..., 1]) * non_target,
            kl(soft_log_probs(teacher, t), soft_log_probs(student, t)),
        )
        for mean, value in zip(self.means, values, strict=True):
            mean.update_state(value, mass)

    def result(self):
        """A dict of scalars, all 0 before any sample."""
        return {mean.name: mean.result() for mean in self.means}

    def get_config(self):
        """The arguments that make this metric again."""
        return {**super().get_config(), "temperature": self.temperature}
