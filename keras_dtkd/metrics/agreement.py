"""Agreement of the top predictions of student and teacher."""

import keras

from keras_dtkd.functional.statistics import agreement


def _top_prediction_agreement(teacher_logits, student_logits):
    if student_logits.shape[-1] == 1:
        raise ValueError(
            "`Agreement` compares top predictions, and outputs of shape "
            f"{tuple(student_logits.shape)} have a single class. Convert them to two "
            "classes: `keras_dtkd.core.logits.to_logits(outputs, 'sigmoid')`."
        )
    return agreement(student_logits, teacher_logits)


@keras.saving.register_keras_serializable("keras_dtkd")
class Agreement(keras.metrics.MeanMetricWrapper):
    """Fraction of samples with equal top predictions of student and teacher.

    `y_true` are the teacher's outputs and `y_pred` the student's, both
    `(batch, ..., classes)`, logits or probabilities. A mask on the student's outputs
    is applied.

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

    # Cannot be compiled: `y_true` would be labels instead of teacher outputs.
    requires_teacher_outputs = True

    def __init__(self, name="agreement", dtype=None):
        super().__init__(fn=_top_prediction_agreement, name=name, dtype=dtype)

    def get_config(self):
        return {"name": self.name, "dtype": self.dtype}
