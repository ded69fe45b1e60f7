"""A higher temperature for what is more likely to be private (Swing)."""

import keras
from keras import ops

from keras_dtkd.core.hyperparameters import Hyperparameter
from keras_dtkd.temperatures.base import Temperature, TemperaturePair
from keras_dtkd.temperatures.bounds import OrderedBound


@keras.saving.register_keras_serializable("keras_dtkd")
class PrivacyTemperature(Temperature):
    """The temperature of `Swing`: the teacher's grows with a privacy score.

    `T = min + (max − min) · score^γ` for each token, with the bounds `min` and `max`.
    It needs scores, which only `Swing` has: no other loss can take it.

    Args:
        minimum: Temperature at a score of 0. Positive.
        maximum: Temperature at a score of 1, at least `minimum`.
        gamma: γ. Positive. Below 1, low scores raise the temperature too.
        student_temperature: The student's temperature, a positive number, or
            `"shared"` for that of the teacher. See `Swing` for what `"shared"` does.
        scale_by_t2: Whether the weight is T², with T the teacher's. Else it is 1.

    All numbers can be changed during training.

    Call arguments:
        student_logits, teacher_logits: `(..., classes)`. Not used.
        scores: Privacy scores from 0 to 1, `(...)` or a scalar. Others are clipped.

    Returns:
        `TemperaturePair`: `student` and `teacher` of shape `(..., 1)`, `weight` of
        shape `(...)`; all scalars for a scalar score.

    Raises:
        ValueError: A bound, `gamma` or `student_temperature` is not above 0, or
            `minimum` is above `maximum`; or there are no scores.

    Reference:
        None: "Swing Distillation", arXiv 2212.08349, states in its abstract that
        temperatures depend on the likelihood of private information, and its formula
        is not public. This one is this library's own.
    """

    minimum = OrderedBound("minimum", "maximum")
    maximum = OrderedBound("minimum", "maximum")
    gamma = Hyperparameter(greater_than=0.0)
    student_temperature = Hyperparameter(greater_than=0.0, aliases={"shared": 0.0})

    def __init__(
        self,
        minimum=1.0,
        maximum=100.0,
        gamma=1.0,
        student_temperature=1.0,
        scale_by_t2=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.minimum = minimum
        self.maximum = maximum
        self.gamma = gamma
        self.student_temperature = student_temperature
        self.scale_by_t2 = bool(scale_by_t2)

    def call(self, student_logits, teacher_logits, scores=None):
        if scores is None:
            raise ValueError(
                "`PrivacyTemperature`: there are no scores. Only `losses.Swing` has "
                "them: use that loss."
            )
        scores = ops.clip(ops.stop_gradient(scores), 0.0, 1.0)
        low, high, gamma, student = (
            # Under JAX a variable is no operand of every operation.
            ops.convert_to_tensor(self.hyperparameter(name))
            for name in (
                *("minimum", "maximum", "gamma"),
                "student_temperature",
            )
        )
        t = low + (high - low) * ops.power(scores, gamma)
        weight = t * t if self.scale_by_t2 else ops.ones_like(t)
        teacher = t[..., None] if len(t.shape) else t
        student = ops.where(student > 0, student, teacher)
        return TemperaturePair(student, teacher, weight)
