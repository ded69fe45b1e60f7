"""Z-scores of the logits, as a temperature (logit standardization)."""

import math
import warnings

import keras
from keras import ops

from keras_dtkd.functional import statistics
from keras_dtkd.temperatures import base
from keras_dtkd.temperatures.base import Temperature, TemperaturePair

# Added to the variance. It bounds the gradient of a model whose logits are all
# equal, and leaves any standard deviation above 0.03 its float32 digits.
EPSILON = 1e-8
MIN_CONFIDENCE_CAP = 0.5


@keras.saving.register_keras_serializable("keras_dtkd")
class Standardized(Temperature):
    """Divides each model's logits by their own standard deviation, and by T.

    `T_s = T · σ_s`, `T_t = T · σ_t`, with σ the unbiased standard deviation over the
    classes (their number less 1), sample by sample. Softened so, logits are the
    softmax of z-scores at temperature T: only their shape is matched, no longer
    their size, which the labels alone teach. Gradient flows through `σ_s`.

    Few classes cap the confidence that z-scores can express: a probability of 1
    becomes `e^(√C/T) / (e^(√C/T) + C − 1)` at most, 0.35 for ten classes at T = 2.
    Below 0.5 the first call warns of it.

    Args:
        temperature: T, the base temperature: a positive number, or any rule (whose
            temperatures are multiplied by σ). Set it to a number to change it while
            training runs.

    Call arguments:
        student_logits: `(..., classes)`. Classes that either model masks out by a
            logit of `-1e9` or less count nowhere.
        teacher_logits: `(..., classes)`.
        sample_weight: For a base temperature that couples the batch.

    Returns:
        `Temperatures`: `student` and `teacher` of shape `(..., 1)`, and the weight T²
        (a scalar for a number), which has no σ in it. A model whose logits are all
        equal gets `1e-4 · T`.

    Raises:
        ValueError: `temperature` is not above 0.

    Reference:
        Sun, Ren, Li, Wang and Cao, "Logit Standardization in Knowledge
        Distillation", arXiv 2403.01427. The authors' code subtracts the mean too,
        which the softmax does not see, and divides by `1e-7 + σ`; we add `1e-8` to
        σ². Their loss is `KD(temperature=Standardized(2.0), weight=9.0)` with
        `task_weight=0.1`.

    Example:

    >>> KD(temperature=Standardized(temperature=2.0), weight=9.0)
    """

    def __init__(self, temperature=2.0, **kwargs):
        super().__init__(**kwargs)
        self._base = base.get(temperature)
        self._warned = False

    @property
    def temperature(self):
        """The rule that gives T. Set it to a number to change T during training."""
        return self._base

    @temperature.setter
    def temperature(self, value):
        self._base.temperature = value

    def call(self, student_logits, teacher_logits, sample_weight=None):
        """The temperatures of these logits."""
        self._warn_of_few(student_logits.shape[-1])
        t = self._base(student_logits, teacher_logits, sample_weight)
        where = ops.logical_and(
            statistics.is_unmasked(student_logits),
            statistics.is_unmasked(teacher_logits),
        )
        return TemperaturePair(
            t.student * _unbiased(student_logits, where),
            t.teacher * _unbiased(teacher_logits, where),
            t.weight,
        )

    def _warn_of_few(self, classes):
        temperature = getattr(self._base, "temperature", None)
        if self._warned or not isinstance(temperature, float):
            return
        # In logarithms: a low temperature overflows the exponential.
        rest = math.exp(-math.sqrt(classes) / temperature) * (classes - 1)
        cap = 1.0 / (1.0 + rest)
        if cap < MIN_CONFIDENCE_CAP:
            self._warned = True
            enough = math.sqrt(classes) / math.log(classes - 1)
            warnings.warn(
                f"`Standardized`: with {classes} classes and temperature="
                f"{temperature:g}, no soft target can have a probability above "
                f"{cap:.2f}, however confident the teacher is. Choose a temperature "
                f"below {enough:.2f}.",
                stacklevel=2,
            )

    def on_epoch_begin(self, epoch, epochs):
        """Passes the call on to the rule that gives T."""
        super().on_epoch_begin(epoch, epochs)
        self._base.on_epoch_begin(epoch, epochs)

    def variables_without_weight_decay(self):
        """Those of the rule that gives T."""
        return self._base.variables_without_weight_decay()

    def get_config(self):
        """The arguments that make this rule again."""
        return {
            **super().get_config(),
            "temperature": keras.saving.serialize_keras_object(self._base),
        }


def _unbiased(logits, where):
    """The standard deviation over the classes that count, `(..., 1)`."""
    count = ops.sum(ops.cast(where, logits.dtype), axis=-1, keepdims=True)
    # One class alone has no standard deviation: its variance is 0, whatever divides.
    correction = ops.sqrt(count / ops.maximum(count - 1.0, 1.0))
    return statistics.std(logits, where=where, epsilon=EPSILON) * ops.maximum(
        correction, 1.0
    )
