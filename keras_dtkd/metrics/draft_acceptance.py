"""How well a student drafts for its teacher."""

import keras

from keras_dtkd.functional.divergences import total_variation
from keras_dtkd.metrics.model_comparison import ModelComparison


@keras.saving.register_keras_serializable("keras_dtkd")
class DraftAcceptance(ModelComparison):
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

    def __init__(
        self, temperature=1.0, from_logits="auto", name="draft_acceptance", dtype=None
    ):
        super().__init__(temperature, from_logits, name, dtype)

    def compare(self, teacher_log_probs, student_log_probs):
        return 1.0 - total_variation(teacher_log_probs, student_log_probs)

    def expected_tokens(self, block):
        """Expected tokens of one teacher pass over `block` drafts, a float.

        `(1 − α^(block + 1)) / (1 − α)` for an acceptance α that is the same at each
        position.
        """
        alpha = float(self.result())
        return sum(alpha**accepted for accepted in range(block + 1))
