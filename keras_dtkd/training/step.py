"""What one training step hands to a loss."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Step:
    """Everything a distillation loss may see of one batch. Nothing else reaches it.

    Attributes:
        x: The batch of inputs, as the data gave it.
        y: The labels of the distilled output, or `None`.
        sample_weight: Weights of the distilled output, or `None`.
        student_outputs: What the student returned: a tensor, list or dict.
        teacher_outputs: What the teacher returned, without gradient.
        student_logits: float32, `(batch, ..., classes)`, with the output's mask.
        teacher_logits: float32, `(batch, ..., classes)`, without gradient.
        student_features: Outputs of the layers that a loss names in
            `student_layers`, by name.
        teacher_features: Likewise of the teacher.
        student_input_gradient: For losses that ask by `input_gradient`: that of each
            sample's cross-entropy, float32, nested and shaped as the inputs; or its
            derivative along a direction, `(batch,)`.
        teacher_input_gradient: Likewise of the teacher, without gradient.
        student: The student model.
        teacher: The `keras_dtkd.teachers.Teacher`.
        training: Whether this is a training step.
    """

    x: Any = None
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
