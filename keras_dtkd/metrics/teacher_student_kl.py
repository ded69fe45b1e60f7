"""How far the student's distribution is from the teacher's."""

import keras

from keras_dtkd.functional.divergences import kl
from keras_dtkd.functional.statistics import soft_log_probs
from keras_dtkd.metrics.inputs import (
    check_from_logits,
    check_temperature,
    row_weights,
    to_logits,
)


@keras.saving.register_keras_serializable("keras_dtkd")
class TeacherStudentKL(keras.metrics.Mean):
    """Mean divergence of the student from the teacher, in nats.

    `KL(softmax(z_t / T) ‖ softmax(z_s / T))`, without the factor T² of a loss. A mask
    on the student's outputs is honoured.

    Args:
        temperature: T, a positive number for both models.
        from_logits: Whether both models' outputs are logits, or probabilities.
            `"auto"` sees it for each: probabilities lie in [0, 1] and sum to 1. A
            single output does not tell, and is taken for a logit.
        name: Its name in the logs.
        dtype: Of the computation.

    Raises:
        ValueError: `temperature` is no finite number above 0, or another
            `from_logits`.

    Example:

    >>> divergence = TeacherStudentKL()
    >>> divergence.update_state(teacher.predict(x), student.predict(x))
    >>> float(divergence.result())
    """

    # Not to be compiled: it would be given labels in the teacher's place.
    requires_teacher_outputs = True

    def __init__(
        self, temperature=1.0, from_logits="auto", name="teacher_student_kl", dtype=None
    ):
        super().__init__(name=name, dtype=dtype)
        self.temperature = check_temperature(self, temperature)
        self.from_logits = check_from_logits(self, from_logits)

    def update_state(self, teacher_outputs, student_outputs, sample_weight=None):
        """Adds a batch.

        Args:
            teacher_outputs: `(batch, ..., classes)`.
            student_outputs: `(batch, ..., classes)`.
            sample_weight: `(batch,)` or `(batch, ...)`. Optional.
        """
        teacher, student = (
            soft_log_probs(to_logits(outputs, self.from_logits), self.temperature)
            for outputs in (teacher_outputs, student_outputs)
        )
        mass = row_weights(student_outputs, sample_weight)
        super().update_state(kl(teacher, student), mass)

    def get_config(self):
        """The arguments that make this metric again."""
        return {
            **super().get_config(),
            "temperature": self.temperature,
            "from_logits": self.from_logits,
        }
