"""The teacher's first choice as a label."""

import keras
from keras import ops

from keras_dtkd.functional.labels import one_hot
from keras_dtkd.functional.statistics import soft_log_probs
from keras_dtkd.losses.base import DistillationLoss


@keras.saving.register_keras_serializable("keras_dtkd")
class HardLabels(DistillationLoss):
    """Cross-entropy of the student with the teacher's first choice (DeiT).

    `−log softmax(z_s)[argmax z_t]` for each sample. It says nothing of how sure the
    teacher is, needs no temperature, and is not 0 for equal models.

    Args:
        weight: See `DistillationLoss`, like `**kwargs`. The paper weighs it like the
            labels' cross-entropy, 1/2 each: `HardLabels(weight=0.5)` beside
            `task_weight=0.5`.

    Call arguments:
        student_logits, teacher_logits: `(batch, ..., classes)`.

    Returns:
        One value per sample, in nats, of shape `(batch, ...)`. Of equal logits the
        first class is the choice.

    Raises:
        ValueError: A negative weight.

    Reference:
        Touvron et al., "Training data-efficient image transformers & distillation
        through attention", arXiv 2012.12877, equation 3. There it acts on an output of
        its own, the distillation token: name it by `output=`.

    Example:

    >>> Distiller(teacher, student, HardLabels(0.5), task_weight=0.5).fit(x, y)
    """

    compares_classes = True

    def call(self, student_logits, teacher_logits, labels=None):
        choice = one_hot(ops.argmax(teacher_logits, axis=-1), teacher_logits)
        log_probs = soft_log_probs(student_logits)
        return -ops.sum(ops.where(choice > 0, log_probs, 0.0), axis=-1)
