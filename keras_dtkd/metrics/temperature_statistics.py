"""What temperatures a rule gives."""

import keras
from keras import ops

from keras_dtkd.metrics.inputs import row_weights, to_logits
from keras_dtkd.temperatures import base as temperatures


@keras.saving.register_keras_serializable("keras_dtkd")
class TemperatureStatistics(keras.metrics.Metric):
    """Mean, deviation and range of a rule's temperatures, over all samples seen.

    The result is a dict: `student_temperature_mean`, `_std` (of the population),
    `_min`, `_max`, and the same of `teacher_temperature`. A mask on the student's
    logits is honoured; a sample of weight 0 counts nowhere. It looks at one process's
    samples: a least number cannot be summed over several.

    Args:
        rule: Any `keras_dtkd.temperatures` rule, or a positive number. That of a loss
            (`loss.temperature`) is measured as it stands, learned parts included.
        name: Its name.
        dtype: Of the result.

    Raises:
        ValueError: `rule` is neither.

    Example:

    >>> statistics = TemperatureStatistics(temperatures.Dynamic(4.0))
    >>> statistics.update_state(teacher.predict(x), student.predict(x))
    >>> statistics.result()["student_temperature_min"]
    """

    # Not to be compiled: it would be given labels in the teacher's place.
    requires_teacher_outputs = True

    def __init__(self, rule, name="temperature_statistics", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.rule = temperatures.get(rule)
        self.count = self._variable("count", "zeros", ())
        # Of student and teacher.
        self.mean = self._variable("mean", "zeros")
        self.squares = self._variable("squares", "zeros")
        self.least = self._variable("least", keras.initializers.Constant(float("inf")))
        self.most = self._variable("most", keras.initializers.Constant(-float("inf")))

    def _variable(self, name, initializer, shape=(2,)):
        return self.add_variable(shape, initializer, dtype="float32", name=name)

    def update_state(self, teacher_logits, student_logits, sample_weight=None):
        """Adds a batch.

        Args:
            teacher_logits: `(batch, ..., classes)`.
            student_logits: `(batch, ..., classes)`.
            sample_weight: `(batch,)` or `(batch, ...)`. Optional.
        """
        mass = row_weights(student_logits, sample_weight)
        student, teacher = to_logits(student_logits), to_logits(teacher_logits)
        t = self.rule(student, teacher, mass)
        both = [ops.ones_like(student[..., :1]) * side for side in t[:2]]
        both = ops.reshape(ops.stack(both), (2, -1))
        mass = ops.reshape(mass, (-1,))
        self._merge(both, mass)
        there = mass > 0
        least = ops.min(ops.where(there, both, float("inf")), axis=-1)
        most = ops.max(ops.where(there, both, -float("inf")), axis=-1)
        self.least.assign(ops.minimum(self.least, least))
        self.most.assign(ops.maximum(self.most, most))

    def _merge(self, values, mass):
        """Mean and squares of both parts' union, by Chan, Golub and LeVeque.

        A difference of sums of squares would leave float32 no digits for temperatures
        that hardly vary.
        """
        added = ops.sum(mass)
        mean = ops.divide_no_nan(ops.sum(mass * values, axis=-1), added)
        squares = ops.sum(mass * (values - mean[:, None]) ** 2, axis=-1)
        count = self.count + added
        share = ops.divide_no_nan(added, count)
        change = mean - self.mean
        self.squares.assign_add(squares + change**2 * self.count * share)
        self.mean.assign_add(change * share)
        self.count.assign(count)

    def result(self):
        """A dict of scalars, all 0 before any sample."""

        def seen(values):
            return ops.where(self.count > 0, ops.convert_to_tensor(values), 0.0)

        found = {
            "mean": self.mean,
            "std": ops.sqrt(ops.divide_no_nan(self.squares, self.count)),
            "min": seen(self.least),
            "max": seen(self.most),
        }
        return {
            f"{side}_temperature_{what}": ops.cast(values[i], self.dtype)
            for i, side in enumerate(("student", "teacher"))
            for what, values in found.items()
        }

    def reset_state(self):
        """Forgets all samples."""
        super().reset_state()
        self.least.assign(ops.full((2,), float("inf")))
        self.most.assign(ops.full((2,), -float("inf")))

    def get_config(self):
        """The arguments that make this metric again."""
        rule = keras.saving.serialize_keras_object(self.rule)
        return {**super().get_config(), "rule": rule}
