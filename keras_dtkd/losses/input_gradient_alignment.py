"""Knowledge distillation with input gradient alignment."""

import keras
from keras import ops

from keras_dtkd.functional.labels import one_hot
from keras_dtkd.losses.input_gradient_base import InputGradientLoss

ESTIMATORS = ("exact", "jvp", "finite_difference")


@keras.saving.register_keras_serializable("keras_dtkd")
class InputGradientAlignment(InputGradientLoss):
    """KDIGA: the student's loss changes with the inputs as the teacher's does.

    With `g_i` the gradient of sample i's cross-entropy with respect to its own inputs,

    `mean_i ‖g_S,i − g_T,i‖`

    so that a student learns the robustness of a robust teacher from clean data. Where
    a teacher is confident its gradient is nearly 0, and this is nearly
    `InputGradientPenalty`: run that control too.

    The student's one pass gives outputs and gradient; a training step costs two to
    three and a half of KD's, with the teacher's own backward pass. Gradients are
    with respect to the data's own numbers: scaling belongs into the models. In float16
    what is below 6e-8 on the way back is lost; bfloat16 keeps it.

    BatchNorm couples the samples of a batch while the student trains: `g_i` is then
    the gradient of all samples' losses with respect to the inputs of one.

    Args:
        norm: `"per_sample"`, the mean of each sample's length; or `"batch"`, the
            authors' published code: one Frobenius norm over the batch of the gradients
            of the *mean* loss, divided by the batch B once more,
            `√(Σ_i ‖g_S,i − g_T,i‖²) / B²`. It falls with `B^1.5`: at 128 it is about
            1/1450 of the other. The batch is coupled: weights of samples count as
            frequencies, and each replica or process has its own norm (under JAX the
            batch is global).
        squared: Whether the length is squared (before the last division by B).
        labels: Whose labels the cross-entropy is of: `"data"`, or `"teacher"` for the
            teacher's first choices, which needs no labels.
        teacher_correct_only: Whether samples on which the teacher's first choice
            is not the label count 0. Needs labels.
        estimator: `"exact"`, or an estimate of the squared length from a random
            direction `v ~ N(0, 1)`: `E[((g_S − g_T)·v)²] = ‖g_S − g_T‖²`, of high
            variance. `"jvp"` takes the derivative along v in forward mode, without a
            second backward pass (TensorFlow needs `jit_compile=False`, or minutes to
            compile); `"finite_difference"` from two more passes of each model, with
            any layer. Both need `squared=True`: a root of an estimate is biased.
        weight: Factor in the total. Not negative. Tune it by `norm`: the authors' code
            has 0.5 by default, and checkpoints for 1, 10 and 100, with `"batch"`.
        warmup_epochs: See `DistillationLoss`.

    Raises:
        ValueError: An unknown `norm`, `labels` or `estimator`, an estimate that is not
            squared, a negative weight. Before the first step: inputs that are not
            floats, models that cast them to integers or look them up, outputs that are
            not `(batch, classes)`, a view, a teacher whose outputs are stored, missing
            labels; `jit_compile=True` under PyTorch with `"exact"`.

    Reference:
        Shao et al., "How and When Adversarial Robustness Transfers in Knowledge
        Distillation?", arXiv 2110.12072. The authors' code divides the KL term by the
        number of classes too, and passes each batch through the student twice, which
        moves BatchNorm's statistics twice; here it is once. Per-sample lengths and
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
        warmup_epochs=0,
        **kwargs,
    ):
        super().__init__(
            norm, squared, weight=weight, warmup_epochs=warmup_epochs, **kwargs
        )
        self.labels = _one_of("labels", labels, ("data", "teacher"))
        self.estimator = _one_of("estimator", estimator, ESTIMATORS)
        self.teacher_correct_only = bool(teacher_correct_only)
        if estimator != "exact" and not squared:
            raise ValueError(
                f"`InputGradientAlignment`: estimator={estimator!r} estimates squared "
                "lengths, of which the root is biased. Pass `squared=True`, or "
                "`estimator='exact'`."
            )

    @property
    def input_gradient(self):
        """The estimator."""
        return self.estimator

    @property
    def input_gradient_labels(self):
        """Whose labels the cross-entropy is of."""
        return self.labels

    @property
    def needs_labels(self):  # type: ignore[override]
        """Whether the labels count."""
        return self.labels == "data" or self.teacher_correct_only

    def compute(self, step):
        """One value a sample."""
        difference = keras.tree.map_structure(
            ops.subtract, step.student_input_gradient, step.teacher_input_gradient
        )
        right = 1.0
        if self.teacher_correct_only:
            right = _right(step.teacher_logits, step.y)
        return self.length(difference, step.sample_weight, right)

    def get_config(self):
        """The arguments that make this loss again."""
        return {
            **super().get_config(),
            "labels": self.labels,
            "teacher_correct_only": self.teacher_correct_only,
            "estimator": self.estimator,
        }


def _right(teacher_logits, labels):
    """1 for each sample whose labels are all the teacher's first choices, else 0."""
    target = one_hot(labels, teacher_logits)
    choice = one_hot(ops.argmax(teacher_logits, axis=-1), teacher_logits)
    found = ops.sum(target * choice, axis=-1)
    return ops.min(ops.reshape(found, (ops.shape(found)[0], -1)), axis=-1)


def _one_of(name, value, known):
    if value not in known:
        raise ValueError(
            f"`InputGradientAlignment`: `{name}` must be one of "
            f"{', '.join(map(repr, known))}. Received: {name}={value!r}."
        )
    return value
