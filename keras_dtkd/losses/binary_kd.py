"""Knowledge distillation for multi-label outputs."""

import keras
from keras import ops

from keras_dtkd.core.logits import OutputKind, to_logits
from keras_dtkd.core.masking import get_mask, row_weights
from keras_dtkd.functional.correlation import unmasked_by_any
from keras_dtkd.functional.divergences import kl
from keras_dtkd.functional.statistics import MIN_LOGIT, soft_log_probs
from keras_dtkd.losses.base import LossValues
from keras_dtkd.losses.temperature_loss import TemperatureLoss


@keras.saving.register_keras_serializable("keras_dtkd")
class BinaryKD(TemperatureLoss):
    """`KD` for multi-label outputs, each label a binary classification.

    The mean over the labels of `w · KL(p ‖ q)`, with `p = sigmoid(z_t / T_t)` and
    `q = sigmoid(z_s / T_s)` the probabilities of the positive class, and with the
    temperatures and the weight w of `temperature` for each label (T² for a constant T).

    A label's logit z is the pair `(−z/2, z/2)` of logits of the negative and the
    positive class: `temperature` and divergence are computed on `(..., labels, 2)`, and
    a temperature that couples the batch treats each label of each sample as a sample.
    In a `Distiller`, the output of a linear last layer is interpreted as such logits,
    regardless of the compiled loss; a model that ends in a softmax is an error.

    Args:
        temperature: A positive number or a `Temperature`, see `TemperatureLoss`.
        **kwargs: `weight`, `warmup_epochs` and more, see `DistillationLoss`.

    Call arguments:
        student_logits, teacher_logits: `(batch, ..., labels)`: one logit per label.

    Returns:
        One value per sample, `(batch, ...)`, in nats times the temperature's weight.
        Labels that both models mask out (by a logit of `-1e8` or less) are ignored.

    Raises:
        ValueError: A temperature not above 0, a negative weight.

    Reference:
        Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network",
        arXiv 1503.02531, for one label of two classes.

    Example:

    >>> Distiller(teacher, student, BinaryKD(temperature=2.0)).fit(x, y)
    """

    multilabel = True

    def compute_loss_values(
        self, student_logits, teacher_logits, labels, sample_weight
    ):
        values, where, temperatures = self.compute_label_values(
            student_logits, teacher_logits, sample_weight
        )
        values = ops.sum(values, axis=-1) / ops.maximum(ops.sum(where, axis=-1), 1.0)
        return LossValues(values, temperatures)

    def compute_label_values(self, student_logits, teacher_logits, sample_weight):
        """The loss of each label, before any mean.

        Args:
            student_logits, teacher_logits: `(batch, ..., labels)`.
            sample_weight: `(batch, ...)`, for temperatures that couple the batch, or
                `None`.

        Returns:
            `(values, where, temperatures)`: values of the logits' shape, 0 where both
            models mask out a label; 1 for labels that are not masked out; and the
            `TemperaturePair`.
        """
        where = ops.cast(unmasked_by_any(student_logits, teacher_logits), "float32")
        student, teacher = (
            to_logits(ops.maximum(logits, MIN_LOGIT), OutputKind.BINARY_LOGITS)
            for logits in (student_logits, teacher_logits)
        )
        if sample_weight is not None:
            # Pairs of a single label have no label axis.
            sample_weight = ops.reshape(
                sample_weight[..., None] * where, ops.shape(student[..., 0])
            )
        t = self._temperature(student, teacher, sample_weight)
        values = t.weight * kl(
            soft_log_probs(teacher, t.teacher), soft_log_probs(student, t.student)
        )
        return where * ops.reshape(values, ops.shape(where)), where, t

    def compute_with_temperatures(self, step):
        """Returns `LossValues` for one `Step`, whose logits may be pairs already."""
        student, teacher = (
            logits_of_labels(logits, step.student_outputs)
            for logits in (step.student_logits, step.teacher_logits)
        )
        weights = row_weights(
            student, step.sample_weight, get_mask(step.student_logits)
        )
        return self(student, teacher, sample_weight=weights, return_temperatures=True)


def logits_of_labels(logits, outputs):
    """Pairs of logits as one logit per label, `(..., labels)`; others unchanged.

    Only the shape of the student's outputs distinguishes a pair from two labels where
    the logits are `(batch, 2)`.
    """
    *labels, last = logits.shape[1:]
    outputs = [o for o in keras.tree.flatten(outputs) if o is not None]
    shapes = [list(output.shape[1:]) for output in outputs]
    has_label_axis, is_single_label = labels in shapes, [*labels, 1] in shapes
    if last != 2 or not (has_label_axis or is_single_label):
        return logits
    logits = logits[..., 1] - logits[..., 0]
    return logits if has_label_axis else logits[..., None]
