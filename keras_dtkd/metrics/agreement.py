"""How often the student chooses what the teacher chooses."""

import keras

from keras_dtkd.functional.statistics import agreement


def _fn(teacher_logits, student_logits):
    if student_logits.shape[-1] == 1:
        raise ValueError(
            "`Agreement` compares first choices, and outputs of shape "
            f"{tuple(student_logits.shape)} have one class. Give both classes: "
            "`keras_dtkd.core.logits.to_logits(outputs, 'sigmoid')` makes pairs of them."
        )
    return agreement(student_logits, teacher_logits)


@keras.saving.register_keras_serializable("keras_dtkd")
class Agreement(keras.metrics.MeanMetricWrapper):
    """Share of samples on which student and teacher have the same first choice.

    `y_true` are the teacher's outputs, `y_pred` the student's, both
    `(batch, ..., classes)`, logits or probabilities alike. A mask on the student's
    outputs is honoured.

    Args:
        name: Its name in the logs.
        dtype: Of the computation.

    Reference:
        Stanton et al., "Does Knowledge Distillation Really Work?", arXiv 2106.05945,
        call it top-1 agreement.

    Example:

    >>> agreement = Agreement()
    >>> agreement.update_state(teacher.predict(x), student.predict(x))
    >>> float(agreement.result())
    """

    # Not to be compiled: it would be given labels in the teacher's place.
    requires_teacher_outputs = True

    def __init__(self, name="agreement", dtype=None):
        super().__init__(fn=_fn, name=name, dtype=dtype)

    def get_config(self):
        """The arguments that make this metric again."""
        return {"name": self.name, "dtype": self.dtype}
