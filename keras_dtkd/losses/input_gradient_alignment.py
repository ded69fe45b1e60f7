"""Knowledge distillation with input gradient alignment."""

import keras
from keras import ops

from keras_dtkd.core.arguments import check_choice
from keras_dtkd.functional.labels import one_hot
from keras_dtkd.losses.input_gradient_base import InputGradientLoss

ESTIMATORS = ("exact", "jvp", "finite_difference")


@keras.saving.register_keras_serializable("keras_dtkd")
class InputGradientAlignment(InputGradientLoss):
    """Aligns the student's input gradient with the teacher's (KDIGA).

    With `g_i` the gradient of sample i's cross-entropy with respect to its own inputs,

    `mean_i ‖g_S,i − g_T,i‖`

    so that a student learns the robustness of a robust teacher from clean data. Where
    a teacher is confident its gradient is nearly 0, and this loss is nearly
    `InputGradientPenalty`: run that control, too.

    One forward pass of the student gives outputs and gradient; a training step costs
    two to three and a half times that of KD, with the teacher's backward pass.
    Gradients are with respect to the data as given: rescaling belongs into the models.
    In float16, values below 6e-8 underflow in the backward pass; bfloat16 keeps them.

    BatchNorm couples the samples of a batch while the student trains: `g_i` is then
    the gradient of all samples' losses with respect to the inputs of one.

    Args:
        weight: See `DistillationLoss`. Tune it to `norm`: the authors' code has a
            default of 0.5, and checkpoints for 1, 10 and 100, with `"batch"`.
        norm: `"per_sample"`, the mean of each sample's norm; or `"batch"`, the
            authors' published code: one Frobenius norm over the batch of the gradients
            of the *mean* loss, divided by the batch size B once more,
            `√(Σ_i ‖g_S,i − g_T,i‖²) / B²`. It falls with `B^1.5`: at 128 it is about
            1/1450 of the other. It couples the batch: sample weights count as
            frequencies.
        squared: Whether the norm is squared (before the last division by B).
        labels: Labels of the cross-entropy: `"data"`, or `"teacher"` for the teacher's
            predicted classes, which needs no labels.
        teacher_correct_only: Whether the loss is 0 for samples that the teacher
            misclassifies. Needs labels.
        estimator: `"exact"`, or an estimate of the squared norm from a random
            direction `v ~ N(0, 1)`: `E[((g_S − g_T)·v)²] = ‖g_S − g_T‖²`, of high
            variance. `"jvp"` takes the derivative along v in forward mode, without a
            second backward pass (TensorFlow needs `jit_compile=False`, or minutes to
            compile); `"finite_difference"` takes it from two more forward passes of
            each model, with any layer. Both need `squared=True`: the root of an
            estimate is biased.
        **kwargs: `warmup_epochs` and more, see `DistillationLoss`.

    Raises:
        ValueError: An unknown `norm`, `labels` or `estimator`, an estimate that is not
            squared, a negative weight. Before the first step: inputs that are not
            floats, models that cast them to integers or embed them, outputs that are
            not `(batch, classes)`, a view, a teacher with stored outputs, missing
            labels; `jit_compile=True` under PyTorch with `"exact"`.

    Reference:
        Shao et al., "How and When Adversarial Robustness Transfers in Knowledge
        Distillation?", arXiv 2110.12072. The authors' code also divides the KL term by
        the number of classes, and passes each batch through the student twice, which
        updates BatchNorm's statistics twice; here it is once. Per-sample norms and
        `teacher_correct_only` are those of their code of 2022.

    Example:

    >>> losses = [KD(temperature=1.0, weight=0.5), InputGradientAlignment()]
    >>> Distiller(teacher, student, losses, task_weight=0.5).fit(x, y)
    """

    def __init__(
        self,
        weight=1.0,
        norm="per_sample",
        squared=False,
        labels="data",
        teacher_correct_only=False,
        estimator="exact",
        **kwargs,
    ):
        super().__init__(weight, norm, squared, **kwargs)
        name = "InputGradientAlignment"
        self.labels = check_choice(name, "labels", labels, ("data", "teacher"))
        self.estimator = check_choice(name, "estimator", estimator, ESTIMATORS)
        self.teacher_correct_only = bool(teacher_correct_only)
        self.input_gradient = self.estimator
        self.input_gradient_labels = self.labels
        self.needs_labels = self.labels == "data" or self.teacher_correct_only
        if estimator != "exact" and not squared:
            raise ValueError(
                f"`InputGradientAlignment`: estimator={estimator!r} estimates squared "
                "norms, and the root of an estimate is biased. Pass `squared=True`, or "
                "`estimator='exact'`."
            )

    def compute(self, step):
        difference = keras.tree.map_structure(
            ops.subtract, step.student_input_gradient, step.teacher_input_gradient
        )
        sample_mask = 1.0
        if self.teacher_correct_only:
            sample_mask = _teacher_is_correct(step.teacher_logits, step.y)
        return self.norm_of(difference, step.sample_weight, sample_mask)


def _teacher_is_correct(teacher_logits, labels):
    """1 for each sample of which the teacher predicts all labels, else 0."""
    target = one_hot(labels, teacher_logits)
    prediction = one_hot(ops.argmax(teacher_logits, axis=-1), teacher_logits)
    is_correct = ops.sum(target * prediction, axis=-1)
    return ops.min(ops.reshape(is_correct, (ops.shape(is_correct)[0], -1)), axis=-1)
