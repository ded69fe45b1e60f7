"""The base of metrics that compare the distributions of two models."""

import keras

from keras_dtkd.core.arguments import check_choice, check_in_range
from keras_dtkd.functional.statistics import soft_log_probs
from keras_dtkd.metrics.inputs import (
    FROM_LOGITS,
    fill_ignored,
    row_weights,
    to_logits,
)


class ModelComparison(keras.metrics.Mean):
    """A weighted mean over rows of what `compare` gives; a mask is applied."""

    # Cannot be compiled: Keras would pass labels instead of teacher outputs.
    requires_teacher_outputs = True

    def __init__(self, temperature, from_logits, name, dtype):
        super().__init__(name=name, dtype=dtype)
        caller = type(self).__name__
        self.temperature = check_in_range(caller, "temperature", temperature, 0)
        self.from_logits = check_choice(caller, "from_logits", from_logits, FROM_LOGITS)

    def compare(self, teacher_log_probs, student_log_probs):
        """One value a row, from log-probabilities at the temperature."""
        raise NotImplementedError

    def update_state(self, teacher_outputs, student_outputs, sample_weight=None):
        """Accumulates a batch; `sample_weight` is `(batch,)` or `(batch, ...)`."""
        weights = row_weights(student_outputs, sample_weight)
        logits = (
            to_logits(fill_ignored(outputs, weights), self.from_logits)
            for outputs in (teacher_outputs, student_outputs)
        )
        teacher, student = (soft_log_probs(z, self.temperature) for z in logits)
        super().update_state(self.compare(teacher, student), weights)

    def get_config(self):
        return {
            **super().get_config(),
            "temperature": self.temperature,
            "from_logits": self.from_logits,
        }
