"""Divergence of the student's distribution from the teacher's."""

import keras

from keras_dtkd.core.arguments import check_choice, check_in_range
from keras_dtkd.functional.divergences import kl
from keras_dtkd.functional.statistics import soft_log_probs
from keras_dtkd.metrics.inputs import FROM_LOGITS, row_weights, to_logits


@keras.saving.register_keras_serializable("keras_dtkd")
class TeacherStudentKL(keras.metrics.Mean):
    """Mean divergence of the student from the teacher, in nats.

    `KL(softmax(z_t / T) ‖ softmax(z_s / T))`, without the factor T² of a loss.
    `teacher_outputs` and `student_outputs` are `(batch, ..., classes)`. A mask on the
    latter is applied.

    Args:
        temperature: T, a positive number for both models.
        from_logits: Whether the outputs of both models are logits or probabilities.
            `"auto"` infers it from the values of each model: probabilities lie in
            [0, 1] and sum to 1. A single output is assumed to be a logit.
        name: Name of the metric in the logs.
        dtype: Dtype of the computation.

    Raises:
        ValueError: `temperature` is not a finite positive number, or `from_logits` is
            invalid.

    Example:

    >>> divergence = TeacherStudentKL()
    >>> divergence.update_state(teacher.predict(x), student.predict(x))
    >>> float(divergence.result())
    """

    # Cannot be compiled: Keras would pass labels instead of teacher outputs.
    requires_teacher_outputs = True

    def __init__(
        self, temperature=1.0, from_logits="auto", name="teacher_student_kl", dtype=None
    ):
        super().__init__(name=name, dtype=dtype)
        caller = "TeacherStudentKL"
        self.temperature = check_in_range(caller, "temperature", temperature, 0)
        self.from_logits = check_choice(caller, "from_logits", from_logits, FROM_LOGITS)

    def update_state(self, teacher_outputs, student_outputs, sample_weight=None):
        """Accumulates a batch; `sample_weight` is `(batch,)` or `(batch, ...)`."""
        teacher, student = (
            soft_log_probs(to_logits(outputs, self.from_logits), self.temperature)
            for outputs in (teacher_outputs, student_outputs)
        )
        weights = row_weights(student_outputs, sample_weight)
        super().update_state(kl(teacher, student), weights)

    def get_config(self):
        return {
            **super().get_config(),
            "temperature": self.temperature,
            "from_logits": self.from_logits,
        }
