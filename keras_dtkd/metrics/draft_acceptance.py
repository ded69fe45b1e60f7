"""How well a student drafts for its teacher."""

import keras

from keras_dtkd.core.arguments import check_choice, check_in_range
from keras_dtkd.functional.divergences import total_variation
from keras_dtkd.functional.statistics import soft_log_probs
from keras_dtkd.metrics.inputs import FROM_LOGITS, row_weights, to_logits


@keras.saving.register_keras_serializable("keras_dtkd")
class DraftAcceptance(keras.metrics.Mean):
    """Mean probability that speculative decoding accepts a token of the student.

    `Σ min(p, q) = 1 − TV(p, q)` of both models' distributions, a position: with the
    rule of speculative sampling, the chance that a token drawn by the student becomes
    the teacher's. `expected_tokens(block)` is what that is worth. `teacher_outputs`
    and `student_outputs` are `(batch, ..., classes)`; a mask on the latter is applied.

    Args:
        temperature: That of the decoding, a positive number for both models.
        from_logits: See `TeacherStudentKL`.
        name: Name of the metric in the logs.
        dtype: Dtype of the computation.

    Raises:
        ValueError: `temperature` is not a finite positive number, or `from_logits` is
            invalid.

    Reference:
        Leviathan et al., "Fast Inference from Transformers via Speculative Decoding",
        arXiv 2211.17192, corollary 3.6 and equation 1.

    Example:

    >>> acceptance = DraftAcceptance()
    >>> acceptance.update_state(teacher.predict(x), student.predict(x), padding_mask)
    >>> acceptance.expected_tokens(block=5)
    """

    # Cannot be compiled: Keras would pass labels instead of teacher outputs.
    requires_teacher_outputs = True

    def __init__(
        self, temperature=1.0, from_logits="auto", name="draft_acceptance", dtype=None
    ):
        super().__init__(name=name, dtype=dtype)
        caller = "DraftAcceptance"
        self.temperature = check_in_range(caller, "temperature", temperature, 0)
        self.from_logits = check_choice(caller, "from_logits", from_logits, FROM_LOGITS)

    def update_state(self, teacher_outputs, student_outputs, sample_weight=None):
        """Accumulates a batch; `sample_weight` is `(batch,)` or `(batch, ...)`."""
        teacher, student = (
            soft_log_probs(to_logits(outputs, self.from_logits), self.temperature)
            for outputs in (teacher_outputs, student_outputs)
        )
        weights = row_weights(student_outputs, sample_weight)
        super().update_state(1.0 - total_variation(teacher, student), weights)

    def expected_tokens(self, block):
        """Expected tokens of one teacher pass over `block` drafts, a float.

        `(1 − α^(block + 1)) / (1 − α)` for an acceptance α that is the same at each
        position.
        """
        alpha = float(self.result())
        return sum(alpha**accepted for accepted in range(block + 1))

    def get_config(self):
        return {
            **super().get_config(),
            "temperature": self.temperature,
            "from_logits": self.from_logits,
        }
