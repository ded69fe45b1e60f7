"""Higher temperatures for the samples of a batch that agree less (CSWT)."""

import keras
from keras import ops

from keras_dtkd.functional.statistics import soft_log_probs
from keras_dtkd.temperatures.base import Temperature, TemperaturePair
from keras_dtkd.temperatures.bounds import OrderedBound

# Distances in a batch that differ by less than this, relative and absolute, count
# as equal: float32 cannot tell which one is greater.
RELATIVE_TOLERANCE = 1e-5
ABSOLUTE_TOLERANCE = 1e-10


@keras.saving.register_keras_serializable("keras_dtkd")
class CosineSimilarity(Temperature):
    """Ranks the samples of a batch by how well student and teacher agree.

    `T_i = min + (max − min) · (c_max − c_i) / (c_max − c_min)`, the same for teacher
    and student, with the bounds `min` and `max`, and with `c_i` the cosine between the
    probabilities of both models at temperature 1, without gradient. The sample with
    the best agreement gets `min_temperature`, the one with the worst
    `max_temperature`. `c_min` and `c_max` are taken over the batch, positions of
    sequences included. Where all samples agree equally well, as for a single sample,
    every temperature is `min_temperature`.

    The temperature of a sample depends on its batch. Two samples always get
    `min_temperature` and `max_temperature`; the larger the batch, the more its outliers
    decide. Under JAX the batch is the global one; under `tf.distribute` and
    `torch.distributed` it is that of each replica.

    Args:
        min_temperature: Lowest temperature. Positive. Can be changed during training.
        max_temperature: Highest temperature, at least `min_temperature`. Can be changed
            during training.

    Call arguments:
        student_logits, teacher_logits: `(..., classes)`.
        sample_weight: `(...)`, or `None`. Samples of weight 0 are excluded from `c_min`
            and `c_max`; any other weight counts as 1.

    Returns:
        `TemperaturePair`: T_i, T_i, `(..., 1)`, and the weight T_i², `(...)`.

    Raises:
        ValueError: `min_temperature` is not above 0, or above `max_temperature`.

    Reference:
        "Cosine Similarity Knowledge Distillation", arXiv 2311.14307. No code of its
        authors is public: the formula follows that of a later work built on it,
        "Leveraging logit uncertainty", Scientific Reports 2024. There, equal
        similarities, and any batch of one, give 0/0, and 1e-8 is added to the product
        of the norms, which is omitted here; their loss is multiplied by the square of
        the mean temperature, and `weight` here is the square of each sample's.

    Example:

    >>> KD(temperature=CosineSimilarity(min_temperature=2.0, max_temperature=6.0))
    """

    min_temperature = OrderedBound("min_temperature", "max_temperature")
    max_temperature = OrderedBound("min_temperature", "max_temperature")
    min_batch_size = 2

    def __init__(self, min_temperature=2.0, max_temperature=6.0, **kwargs):
        super().__init__(**kwargs)
        self.min_temperature = min_temperature
        self.max_temperature = max_temperature

    def call(self, student_logits, teacher_logits, sample_weight=None):
        distance = _distance(
            ops.stop_gradient(student_logits), ops.stop_gradient(teacher_logits)
        )
        weights = ops.ones_like(distance) if sample_weight is None else sample_weight
        # Distances lie between 0 and 1.
        min_distance = ops.min(ops.where(weights > 0, distance, 1.0))
        max_distance = ops.max(ops.where(weights > 0, distance, 0.0))
        tolerance = RELATIVE_TOLERANCE * max_distance + ABSOLUTE_TOLERANCE
        fraction = (distance - min_distance) / ops.maximum(
            max_distance - min_distance, tolerance
        )
        # Only a sample of weight 0 can lie outside.
        fraction = ops.clip(fraction, 0.0, 1.0)
        low = self.hyperparameter("min_temperature")
        high = self.hyperparameter("max_temperature")
        return TemperaturePair.equal((low + (high - low) * fraction)[..., None])


def _distance(student_logits, teacher_logits):
    """`1 − cos` of the probabilities, `(...)`, from 0 to 1."""

    def unit_vector(logits):
        probs = ops.exp(soft_log_probs(logits))
        return probs / ops.sqrt(ops.sum(probs * probs, axis=-1, keepdims=True))

    # Near 1 a cosine has no digits left: temperatures of equal models would be noise.
    difference = unit_vector(student_logits) - unit_vector(teacher_logits)
    return 0.5 * ops.sum(difference * difference, axis=-1)
