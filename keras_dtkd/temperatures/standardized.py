"""Z-scores of the logits, as a temperature (logit standardization)."""

import math
import warnings

import keras
from keras import ops

from keras_dtkd.functional import statistics
from keras_dtkd.temperatures.base import DerivedTemperature, TemperaturePair

# Added to the variance. It bounds the gradient where all logits of a model are equal,
# and leaves any standard deviation above 0.03 its float32 digits.
EPSILON = 1e-8
MIN_CONFIDENCE_CAP = 0.5


@keras.saving.register_keras_serializable("keras_dtkd")
class Standardized(DerivedTemperature):
    """Divides each model's logits by their own standard deviation, and by T.

    `T_s = T · σ_s`, `T_t = T · σ_t`, with σ the unbiased standard deviation over the
    classes (their number minus 1), sample by sample. The softened logits are then the
    softmax of z-scores at temperature T: only their shape is matched, and no longer
    their scale, which the student learns from the labels alone. Gradient flows through
    `σ_s`.

    Few classes limit the confidence that z-scores can express: a probability of 1
    becomes `e^(√C/T) / (e^(√C/T) + C − 1)` at most, 0.35 for ten classes at T = 2.
    The first call warns if this is below 0.5.

    Args:
        temperature: T: a positive number, or any `Temperature`, whose temperatures are
            multiplied by σ. Set it to a number to change it during training.

    Call arguments:
        student_logits, teacher_logits: `(..., classes)`. Classes that either model
            masks out by a logit of `-1e8` or less are ignored.
        sample_weight: For a base temperature that couples the batch.

    Returns:
        `TemperaturePair`: `student` and `teacher` of shape `(..., 1)`, and the weight
        T² (a scalar for a number), which does not contain σ. A model whose logits are
        all equal gets `1e-4 · T`.

    Raises:
        ValueError: `temperature` is not above 0.

    Reference:
        Sun, Ren, Li, Wang and Cao, "Logit Standardization in Knowledge
        Distillation", arXiv 2403.01427. The authors' code also subtracts the mean,
        which does not change the softmax, and divides by `1e-7 + σ`; we add `1e-8` to
        σ². Their loss is `KD(temperature=Standardized(2.0), weight=9.0)` with
        `task_weight=0.1`.

    Example:

    >>> KD(temperature=Standardized(temperature=2.0), weight=9.0)
    """

    def __init__(self, temperature=2.0, **kwargs):
        super().__init__(temperature, **kwargs)
        self._warned = False

    def call(self, student_logits, teacher_logits, sample_weight=None):
        self._warn_few_classes(student_logits.shape[-1])
        t = self._base(student_logits, teacher_logits, sample_weight)
        student_logits = statistics.clamp(student_logits)
        teacher_logits = statistics.clamp(teacher_logits)
        where = statistics.unmasked_by_both(student_logits, teacher_logits)
        return TemperaturePair(
            t.student * _unbiased_std(student_logits, where),
            t.teacher * _unbiased_std(teacher_logits, where),
            t.weight,
        )

    def _warn_few_classes(self, num_classes):
        temperature = getattr(self._base, "temperature", None)
        if self._warned or not isinstance(temperature, float):
            return
        # In log space: a low temperature overflows the exponential.
        others = math.exp(-math.sqrt(num_classes) / temperature) * (num_classes - 1)
        max_confidence = 1.0 / (1.0 + others)
        if max_confidence < MIN_CONFIDENCE_CAP:
            self._warned = True
            max_temperature = math.sqrt(num_classes) / math.log(num_classes - 1)
            warnings.warn(
                f"`Standardized`: with {num_classes} classes and temperature="
                f"{temperature:g}, no soft target can have a probability above "
                f"{max_confidence:.2f}, however confident the teacher is. Choose a "
                f"temperature below {max_temperature:.2f}.",
                stacklevel=2,
            )


def _unbiased_std(logits, where):
    """The standard deviation over the classes that count, `(..., 1)`."""
    count = ops.sum(ops.cast(where, logits.dtype), axis=-1, keepdims=True)
    count = ops.maximum(count, 1.0)
    # A single class has no standard deviation: its variance is 0 with any divisor.
    correction = ops.sqrt(count / ops.maximum(count - 1.0, 1.0))
    return correction * statistics.std(logits, where=where, epsilon=EPSILON)
