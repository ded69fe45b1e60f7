"""The forward passes of teacher and student in a training step."""

import keras
from keras import ops

from keras_dtkd.teachers.forward import without_effect
from keras_dtkd.teachers.sample_ids import split_sample_ids
from keras_dtkd.training import feature_capture
from keras_dtkd.training.step import ForwardPass


def teacher_forward(teacher, x, layers=(), variable_values=None, seeds=()):
    """Runs the teacher on a batch: no gradient, no lasting effect on the teacher.

    Args:
        teacher: A `keras_dtkd.teachers.Teacher`.
        x: The batch of inputs, as the data gave it, with or without sample ids.
        layers: Names of the teacher's layers to capture.
        variable_values: See `keras_dtkd.teachers.forward.without_effect`.
        seeds: See `keras_dtkd.teachers.forward.without_effect`.

    Returns:
        A `ForwardPass` without input gradient.
    """

    def forward():
        with feature_capture.capture(teacher.model, layers) as features:
            outputs = teacher.outputs(*split_sample_ids(x))
        return ForwardPass(outputs, unwrap_single(features))

    return without_effect(teacher, forward, variable_values, seeds)


def stop_gradient(forward_pass):
    """The forward pass, constant for the gradient."""
    return keras.tree.map_structure(
        lambda value: None if value is None else ops.stop_gradient(value), forward_pass
    )


def student_forward(student, x, layers=(), training=False):
    """Runs the student on a batch.

    Args:
        student: The student.
        x: The batch of inputs, without sample ids.
        layers: Names of its layers to capture.
        training: Whether it is trained.

    Returns:
        A `ForwardPass` without input gradient.
    """
    with feature_capture.capture(student, layers) as features:
        outputs = student(x, training=training)
    return ForwardPass(outputs, unwrap_single(features))


def captured_layers(losses, side):
    """The layers whose outputs the losses need.

    Args:
        losses: Distillation losses by name.
        side: `"student"` or `"teacher"`.

    Returns:
        Names, sorted.
    """
    names = {n for loss in losses.values() for n in getattr(loss, f"{side}_layers")}
    return sorted(names)


def unwrap_single(features):
    """The output of a layer that was called once, else the list of them."""
    return {n: out[0] if len(out) == 1 else out for n, out in features.items()}
