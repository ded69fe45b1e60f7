"""The less a batch's sample is learned, the softer its targets (CSWT)."""

import keras
from keras import ops

from keras_dtkd.core.hyperparameters import Hyperparameter
from keras_dtkd.functional.statistics import soft_log_probs
from keras_dtkd.temperatures.base import Temperature, TemperaturePair

# Distances of a batch that differ by less than this, relative and absolute, count
# as equal: float32 could not tell which is the greater.
RELATIVE = 1e-5
ABSOLUTE = 1e-10


class _OrderedBound(Hyperparameter):
    """One of two temperatures, `minimum` and `maximum`, in this order."""

    def check(self, layer, value):
        number = super().check(layer, value)
        lowest = number if self.name == "minimum" else layer.minimum
        highest = getattr(layer, "maximum", number)
        if self.name == "maximum":
            highest = number
        if lowest > highest:
            raise ValueError(
                f"`{type(layer).__name__}`: `minimum` must not be above `maximum`. "
                f"Received: minimum={lowest!r}, maximum={highest!r}."
            )
        return number


@keras.saving.register_keras_serializable("keras_dtkd")
class CosineSimilarity(Temperature):
    """Ranks the samples of a batch by how well the student already agrees.

    `T_i = minimum + (maximum − minimum) · (c_max − c_i) / (c_max − c_min)`, the same
    for teacher and student, with `c_i` the cosine between the probabilities of both
    at temperature 1, always a constant for the gradient: what agrees best gets
    `minimum`, what agrees least `maximum`. `c_min` and `c_max` are those of the
    batch, positions of sequences included. Where all agree alike, and so for one
    sample, every temperature is `minimum`: that of the highest similarity.

    A sample's temperature depends on its batch. Two samples always get `minimum`
    and `maximum`; the greater the batch, the more its outliers decide. Under JAX the
    batch is the global one; under `tf.distribute` and `torch.distributed` it is that
    of each replica.

    Args:
        minimum: Temperature of the sample with the highest similarity. Positive.
            May be changed while training runs, as `maximum`.
        maximum: Temperature of the sample with the lowest. At least `minimum`.

    Call arguments:
        student_logits: `(..., classes)`.
        teacher_logits: `(..., classes)`.
        sample_weight: `(...)`, or `None`. Rows of weight 0 count neither in `c_min`
            nor in `c_max`; any other weight counts as 1.

    Returns:
        `Temperatures`: `student` and `teacher` of shape `(..., 1)`, between
        `minimum` and `maximum`, and `weight = T_i²` of shape `(...)`.

    Raises:
        ValueError: `minimum` is not above 0, or above `maximum`.

    Reference:
        "Cosine Similarity Knowledge Distillation", arXiv 2311.14307. No code of its
        authors is public: the formula follows that of a later work built on it,
        "Leveraging logit uncertainty", Scientific Reports 2024. There equal
        similarities, and any batch of one, give 0/0, and 1e-8 is added to the norms'
        product, which is left out here; their loss multiplies by the
        square of the mean temperature, and `weight` is that of each sample.

    Example:

    >>> KD(temperature=CosineSimilarity(minimum=2.0, maximum=6.0))
    """

    minimum = _OrderedBound(above=0.0)
    maximum = _OrderedBound(above=0.0)

    def __init__(self, minimum=2.0, maximum=6.0, **kwargs):
        super().__init__(**kwargs)
        self.minimum = minimum
        self.maximum = maximum

    def call(self, student_logits, teacher_logits, sample_weight=None):
        """The temperatures of these logits."""
        distance = _distance(
            ops.stop_gradient(student_logits), ops.stop_gradient(teacher_logits)
        )
        if sample_weight is None:
            nearest, farthest = ops.min(distance), ops.max(distance)
        else:
            counts = sample_weight > 0
            # Distances lie between 0 and 1.
            nearest = ops.min(ops.where(counts, distance, 1.0))
            farthest = ops.max(ops.where(counts, distance, 0.0))
        smallest = RELATIVE * farthest + ABSOLUTE
        share = (distance - nearest) / ops.maximum(farthest - nearest, smallest)
        # Only a row that does not count can lie outside.
        share = ops.clip(share, 0.0, 1.0)
        minimum, maximum = (
            self.hyperparameter("minimum"),
            self.hyperparameter("maximum"),
        )
        temperature = minimum + (maximum - minimum) * share
        return TemperaturePair(
            temperature[..., None], temperature[..., None], temperature * temperature
        )

    def get_config(self):
        """The arguments that make this rule again."""
        return {
            **super().get_config(),
            "minimum": self.minimum,
            "maximum": self.maximum,
        }


def _distance(student_logits, teacher_logits):
    """`1 − cos` of the probabilities, `(...)`, from 0 to 1.

    As half the squared distance of unit vectors: next to 1 a cosine has no digits
    left, and models that agree would get temperatures of noise.
    """

    def unit(logits):
        probs = ops.exp(soft_log_probs(logits))
        return probs / ops.sqrt(ops.sum(probs * probs, axis=-1, keepdims=True))

    difference = unit(student_logits) - unit(teacher_logits)
    return 0.5 * ops.sum(difference * difference, axis=-1)
