"""What travels through one training step, and what of it reaches a loss."""

import dataclasses
from typing import Any, NamedTuple


class TrainingInputs(NamedTuple):
    """Takes the place of `x` in Keras's step, so that `call` gives a `ForwardPass`."""

    x: Any  # The batch of inputs, as the data gave it.
    # Class probabilities of the cross-entropy whose input gradient is needed too.
    gradient_targets: Any = None
    direction: Any = None  # Nested as the inputs, for estimators along a direction.


class TrainingTargets(NamedTuple):
    """Takes the place of `y` in Keras's step."""

    labels: Any  # The batch's labels, or `None`.
    teacher: Any = None  # The teacher's `ForwardPass`, without gradient.
    rollout: Any = None  # What a rollout generated, a `RolloutResult`.
    # Values of its variables under JAX; `None` for those that are the student's too.
    teacher_variables: Any = None


class ForwardPass(NamedTuple):
    """What a model returned. The student's takes the place of Keras's `y_pred`."""

    outputs: Any  # Masks included.
    features: Any = None  # Outputs of the captured layers, by name.
    input_gradient: Any = None  # Of the model's cross-entropy, where it is needed.


@dataclasses.dataclass(frozen=True)
class Step:
    """Everything a distillation loss may see of one batch. Nothing else reaches it.

    Attributes:
        x: The batch of inputs, as the models take it.
        columns: What else the batch carries, by name: see `datasets.with_columns`.
        y: The labels of the distilled output, or `None`. With a rollout, the tokens. Of
            a student with a loss of its own, all labels, as a detector's dict of boxes.
            `None` on a view.
        sample_weight: Weights of the distilled output, or `None`.
        student_outputs: What the student returned: a tensor, list or dict.
        teacher_outputs: What the teacher returned, without gradient.
        student_logits: float32, `(batch, ..., classes)`, with the output's mask.
        teacher_logits: float32, `(batch, ..., classes)`, without gradient.
        student_features: Outputs of the layers that a loss names in `student_layers`,
            by name. A layer that is called several times in a pass has a list of them.
        teacher_features: Teacher features by layer name, without gradient.
        student_input_gradient: For losses with an `input_gradient`: that of each
            sample's cross-entropy, float32, nested and shaped as the inputs; or its
            derivative along a direction, `(batch,)`.
        teacher_input_gradient: That of the teacher, without gradient.
        student: The student model.
        teacher: The `keras_dtkd.teachers.Teacher`.
        training: Whether this is a training step.
    """

    x: Any = None
    columns: Any = None
    y: Any = None
    sample_weight: Any = None
    student_outputs: Any = None
    teacher_outputs: Any = None
    student_logits: Any = None
    teacher_logits: Any = None
    student_features: Any = None
    teacher_features: Any = None
    student_input_gradient: Any = None
    teacher_input_gradient: Any = None
    student: Any = None
    teacher: Any = None
    training: bool = True
