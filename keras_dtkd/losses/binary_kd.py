"""Knowledge distillation where each label is a question of its own."""

import keras
from keras import ops

from keras_dtkd.core.logits import BINARY, to_logits
from keras_dtkd.core.masking import get_mask, row_weights
from keras_dtkd.functional.divergences import kl
from keras_dtkd.functional.statistics import MIN_LOGIT, is_unmasked, soft_log_probs
from keras_dtkd.losses.base import LossValues
from keras_dtkd.losses.temperature_loss import TemperatureLoss


@keras.saving.register_keras_serializable("keras_dtkd")
class BinaryKD(TemperatureLoss):
    """`KD` for outputs of several labels, each a choice of yes or no.

    The mean over the labels of `w · KL(p ‖ q)`, with `p = sigmoid(z_t / T_t)` and
    `q = sigmoid(z_s / T_s)` the probabilities of "yes", and the temperatures and the
    weight w that the rule gives for each label (T² for a constant T).

    A label's logit z is the pair `(−z/2, z/2)` of logits of "no" and "yes": rules and
    divergence see `(..., labels, 2)`, and a rule that couples rows takes each label of
    each sample for one. In a `Distiller`, models that end in a linear layer are taken
    to give such logits, whatever they were compiled with; those that end in a softmax
    are refused.

    Args:
        temperature: A positive number, or any `keras_dtkd.temperatures` rule. Set it
            to a number to change it while training runs.
        weight: Factor in the total. Not negative.
        warmup_epochs: See `DistillationLoss`.

    Call arguments:
        student_logits: `(batch, ..., labels)`: one logit a label.
        teacher_logits: `(batch, ..., labels)`.
        labels: Not used.
        sample_weight: For a rule that couples the batch, see `DistillationLoss`.

    Returns:
        One value a sample, in nats times the rule's weight, shape `(batch, ...)`.
        Labels that both models mask out (by a logit of `-1e8` or less) count nowhere.

    Raises:
        ValueError: A temperature not above 0, a negative weight.

    Reference:
        Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network",
        arXiv 1503.02531, for one label of two classes.

    Example:

    >>> Distiller(teacher, student, BinaryKD(temperature=2.0)).fit(x, y)
    """

    multilabel = True

    def __init__(self, temperature=4.0, weight=1.0, warmup_epochs=0, **kwargs):
        super().__init__(
            temperature, weight=weight, warmup_epochs=warmup_epochs, **kwargs
        )

    def call(
        self,
        student_logits,
        teacher_logits,
        labels=None,
        sample_weight=None,
        return_temperatures=False,
    ):
        """One value a sample; with `return_temperatures`, `LossValues`."""
        where = ops.logical_or(is_unmasked(student_logits), is_unmasked(teacher_logits))
        where = ops.cast(where, "float32")
        student = to_logits(ops.maximum(student_logits, MIN_LOGIT), BINARY)
        teacher = to_logits(ops.maximum(teacher_logits, MIN_LOGIT), BINARY)
        if sample_weight is not None:
            # A single label has no axis among pairs.
            sample_weight = ops.reshape(
                sample_weight[..., None] * where, ops.shape(student[..., 0])
            )
        t = self._temperature(student, teacher, sample_weight)
        values = t.weight * kl(
            soft_log_probs(teacher, t.teacher), soft_log_probs(student, t.student)
        )
        values = where * ops.reshape(values, ops.shape(where))
        values = ops.sum(values, axis=-1) / ops.maximum(ops.sum(where, axis=-1), 1.0)
        return LossValues(values, t) if return_temperatures else values

    def compute(self, step):
        """The values for one `Step`, whose logits may be pairs already."""
        student, teacher = (
            _of_pairs(logits, step.student_outputs)
            for logits in (step.student_logits, step.teacher_logits)
        )
        weights = row_weights(
            student, step.sample_weight, get_mask(step.student_logits)
        )
        return self(
            student, teacher, sample_weight=weights, return_temperatures=True
        )


def _of_pairs(logits, outputs):
    """One logit a label again, `(..., labels)`; those of no pairs as they are.

    Only the student's outputs tell whether `(batch, 2)` is a pair or two labels.
    """
    *labels, last = logits.shape[1:]
    outputs = [o for o in keras.tree.flatten(outputs) if o is not None]
    shapes = [list(output.shape[1:]) for output in outputs]
    several, single = labels in shapes, [*labels, 1] in shapes
    if last != 2 or not (several or single):
        return logits
    logits = logits[..., 1] - logits[..., 0]
    return logits if several else logits[..., None]
