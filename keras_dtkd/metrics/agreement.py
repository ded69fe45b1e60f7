"""Agreement of the top predictions of student and teacher."""

import keras
from keras import ops

from keras_dtkd.functional.statistics import agreement
from keras_dtkd.metrics.inputs import row_weights


@keras.saving.register_keras_serializable("keras_dtkd")
class Agreement(keras.metrics.Mean):
    """Fraction of samples with equal top predictions of student and teacher.

    `teacher_outputs` and `student_outputs` are `(batch, ..., classes)`, logits or
    probabilities. A mask on the latter is applied.

    Args:
        name: Name of the metric in the logs.
        dtype: Dtype of the computation.

    Reference:
        Stanton et al., "Does Knowledge Distillation Really Work?", arXiv 2106.05945,
        where it is called top-1 agreement.

    Example:

    >>> agreement = Agreement()
    >>> agreement.update_state(teacher.predict(x), student.predict(x))
    >>> float(agreement.result())
    """

    # Cannot be compiled: Keras would pass labels instead of teacher outputs.
    requires_teacher_outputs = True

    def __init__(self, name="agreement", dtype=None):
        super().__init__(name=name, dtype=dtype)

    def update_state(self, teacher_outputs, student_outputs, sample_weight=None):
        """Accumulates a batch; `sample_weight` is `(batch,)` or `(batch, ...)`."""
        weights = row_weights(student_outputs, sample_weight)
        teacher, student = map(
            ops.convert_to_tensor, (teacher_outputs, student_outputs)
        )
        if student.shape[-1] == 1:
            raise ValueError(
                "`Agreement` compares top predictions, and outputs of shape "
                f"{tuple(student.shape)} have a single class. Convert them to two "
                "classes: `keras_dtkd.core.logits.to_logits(outputs, 'sigmoid')`."
            )
        super().update_state(agreement(student, teacher), weights)
