"""Statistics of a temperature."""

import keras
from keras import ops

from keras_dtkd.metrics.inputs import fill_ignored, row_weights, to_logits
from keras_dtkd.temperatures import base as temperatures


@keras.saving.register_keras_serializable("keras_dtkd")
class TemperatureStatistics(keras.metrics.Metric):
    """Mean, standard deviation and range of temperatures, over all samples.

    The result is a dict: `student_temperature_mean`, `_std` (of the population),
    `_min`, `_max`, and the same for `teacher_temperature`. `teacher_logits` and
    `student_logits` are `(batch, ..., classes)`. A mask on the latter is applied;
    samples of weight 0 are ignored. Only samples of this process are measured: a
    minimum cannot be summed over processes.

    Args:
        temperature: Any of `keras_dtkd.temperatures`, or a positive number. The
            temperature of a loss (`loss.temperature`) is measured in its current
            state, including learned weights.
        name: Name of the metric.
        dtype: Dtype of the result.

    Raises:
        ValueError: `temperature` is neither.

    Example:

    >>> statistics = TemperatureStatistics(temperatures.Dynamic(4.0))
    >>> statistics.update_state(teacher.predict(x), student.predict(x))
    >>> statistics.result()["student_temperature_min"]
    """

    # Cannot be compiled: Keras would pass labels instead of teacher outputs.
    requires_teacher_outputs = True

    def __init__(self, temperature, name="temperature_statistics", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.temperature = temperatures.get(temperature)
        self.count = self._variable("count", ())
        # For student and teacher.
        self.mean = self._variable("mean")
        self.squared_deviations = self._variable("squared_deviations")
        self.minimum = self._variable("minimum", initial=float("inf"))
        self.maximum = self._variable("maximum", initial=-float("inf"))

    def _variable(self, name, shape=(2,), initial=0.0):
        initializer = keras.initializers.Constant(initial)
        return self.add_variable(shape, initializer, dtype="float32", name=name)

    def update_state(self, teacher_logits, student_logits, sample_weight=None):
        """Accumulates a batch; `sample_weight` is `(batch,)` or `(batch, ...)`."""
        weights = row_weights(student_logits, sample_weight)
        student, teacher = (
            to_logits(fill_ignored(z, weights))
            for z in (student_logits, teacher_logits)
        )
        t = self.temperature(student, teacher, weights)
        values = [ops.ones_like(student[..., :1]) * side for side in t[:2]]
        values = ops.reshape(ops.stack(values), (2, -1))
        weights = ops.reshape(weights, (-1,))
        self._merge(values, weights)
        is_counted = weights > 0
        minimum = ops.min(ops.where(is_counted, values, float("inf")), axis=-1)
        maximum = ops.max(ops.where(is_counted, values, -float("inf")), axis=-1)
        self.minimum.assign(ops.minimum(self.minimum, minimum))
        self.maximum.assign(ops.maximum(self.maximum, maximum))

    def _merge(self, values, weights):
        """Merges a batch into mean and squared deviations (Chan, Golub and LeVeque)."""
        # A difference of sums of squares has no correct digits in float32.
        batch_count = ops.sum(weights)
        mean = ops.divide_no_nan(ops.sum(weights * values, axis=-1), batch_count)
        squares = ops.sum(weights * (values - mean[:, None]) ** 2, axis=-1)
        count = self.count + batch_count
        fraction = ops.divide_no_nan(batch_count, count)
        change = mean - self.mean
        between = change**2 * self.count * fraction
        self.squared_deviations.assign_add(squares + between)
        self.mean.assign_add(change * fraction)
        self.count.assign(count)

    def result(self):
        """Returns a dict of scalars, all 0 without samples."""
        statistics = {
            "mean": self.mean,
            "std": ops.sqrt(ops.divide_no_nan(self.squared_deviations, self.count)),
            "min": self.minimum,
            "max": self.maximum,
        }
        return {
            f"{side}_temperature_{name}": ops.cast(
                ops.where(self.count > 0, values[i], 0.0), self.dtype
            )
            for i, side in enumerate(("student", "teacher"))
            for name, values in statistics.items()
        }

    def reset_state(self):
        super().reset_state()
        self.minimum.assign(ops.full((2,), float("inf")))
        self.maximum.assign(ops.full((2,), -float("inf")))

    def get_config(self):
        temperature = keras.saving.serialize_keras_object(self.temperature)
        return {**super().get_config(), "temperature": temperature}
