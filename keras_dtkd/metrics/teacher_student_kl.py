"""Divergence of the student's distribution from the teacher's."""

import keras

from keras_dtkd.functional.divergences import kl
from keras_dtkd.metrics.model_comparison import ModelComparison


@keras.saving.register_keras_serializable("keras_dtkd")
class TeacherStudentKL(ModelComparison):
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

    def __init__(
        self, temperature=1.0, from_logits="auto", name="teacher_student_kl", dtype=None
    ):
        super().__init__(temperature, from_logits, name, dtype)

    def compare(self, teacher_log_probs, student_log_probs):
        return kl(teacher_log_probs, student_log_probs)
