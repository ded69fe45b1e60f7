"""A loss on outputs that one temperature softens."""

from keras_dtkd.losses.base import DistillationLoss, LossValues
from keras_dtkd.temperatures import Constant
from keras_dtkd.temperatures import base as temperatures


class TemperatureLoss(DistillationLoss):
    """Base of the losses that take a `temperature`.

    A subclass overrides `compute_values`, which gets the temperatures of the batch.

    Args:
        temperature: A positive number, or any `keras_dtkd.temperatures.Temperature`.
            Set it to a number to change it during training.
        **kwargs: As `DistillationLoss`.

    Call arguments:
        student_logits, teacher_logits: `(batch, ..., classes)`.
        labels: As the data gives them, or `None`.
        sample_weight: Weights of the rows, for what couples the batch. Optional.

    Raises:
        ValueError: A temperature not above 0, or what `DistillationLoss` refuses.

    Example:

    >>> class SoftCrossEntropy(TemperatureLoss):
    ...     def compute_values(self, student_logits, teacher_logits, temperatures, **_):
    ...         log_q = soft_log_probs(student_logits, temperatures.student)
    ...         p = ops.softmax(teacher_logits / temperatures.teacher)
    ...         return -temperatures.weight * ops.sum(p * log_q, axis=-1)
    """

    compares_classes = True

    def __init__(self, temperature=4.0, **kwargs):
        super().__init__(**kwargs)
        self._temperature = temperatures.get(temperature)

    @property
    def temperature(self):
        """The `Temperature`. Set it to a number to change its temperature."""
        return self._temperature

    @temperature.setter
    def temperature(self, value):
        self._temperature.temperature = value

    def with_temperature(self, **arguments):
        """`chunked_arguments` with a constant temperature, or `None`."""
        if not isinstance(self._temperature, Constant):
            return None
        pair = self._temperature.call(None, None)
        return {**arguments, "temperature": pair.student, "weight": pair.weight}

    def call(
        self,
        student_logits,
        teacher_logits,
        labels=None,
        sample_weight=None,
        return_temperatures=False,
    ):
        """One value a sample; with `return_temperatures`, `LossValues`."""
        result = self.compute_loss_values(
            student_logits, teacher_logits, labels, sample_weight
        )
        return result if return_temperatures else result.values

    def compute_loss_values(
        self, student_logits, teacher_logits, labels, sample_weight
    ):
        """`LossValues`. Override it for more than one pair of temperatures."""
        pair = self._temperature(student_logits, teacher_logits, sample_weight)
        values = self.compute_values(
            student_logits,
            teacher_logits,
            pair,
            labels=labels,
            sample_weight=sample_weight,
        )
        return LossValues(values, pair)

    def compute_values(
        self, student_logits, teacher_logits, temperatures, labels, sample_weight
    ):
        """One value a sample, `(batch, ...)`, at the given `TemperaturePair`."""
        raise NotImplementedError(
            f"`{type(self).__name__}` must override `compute_values(student_logits, "
            "teacher_logits, temperatures, labels, sample_weight)`."
        )
