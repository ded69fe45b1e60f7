"""The forward passes of the two models in a training step, compiled where that pays."""

import dataclasses
import functools
from typing import Any

from keras_dtkd import backend
from keras_dtkd.core.snapshot import take_snapshot
from keras_dtkd.teachers.forward import (
    compile_forward,
    when_to_compile,
    without_effect,
)
from keras_dtkd.training import input_gradients
from keras_dtkd.training.chunked_step import run_student, run_teacher
from keras_dtkd.training.feature_capture import capture, select_calls
from keras_dtkd.training.step import ForwardPass


@dataclasses.dataclass
class ModelPasses:
    """The functions that a Distiller's `torch_compile` applies to.

    Attributes:
        teacher: A function of a batch; `None` until a training step is made.
        student: A function of the student's inputs and `training`, or `None`.
        is_exact: Whether a callback resumes the run bit for bit. `"auto"`, which
            compiles at a moment that depends on the machine, compiles nothing then.
        snapshot: Of the models, as they were compiled; `None` where nothing is.
        is_checked: Whether they are known to be so still: not when an epoch begins,
            before which a callback may have changed a layer's settings.
    """

    teacher: Any = None
    student: Any = None
    is_exact: bool = False
    snapshot: Any = None
    is_checked: bool = True

    def follow_callbacks(self, distiller, callbacks):
        """Sets `is_exact`, before `fit` makes its function."""
        is_exact = any(getattr(c, "continues_exactly", False) for c in callbacks)
        if is_exact != self.is_exact:
            self.is_exact, distiller.train_function = is_exact, None

    def compile(self, distiller):
        """Makes the functions, of models that are built. They last as `fit`'s own."""
        self.teacher = self.student = self.snapshot = None
        if not distiller.teacher_is_frozen:
            return
        teacher, when = distiller.teacher_reference.teacher, distiller.torch_compile
        if distiller.run_eagerly or (when == "auto" and self.is_exact):
            when = False
        run_teacher, run_student = (
            functools.partial(run, distiller) for run in (_run_teacher, _run_student)
        )
        self.teacher = compile_forward(teacher, run_teacher, when)
        self.student = backend.compile_forward(
            run_student,
            distiller.student.variables,
            "the student",
            when_to_compile([distiller.student], when, training=True),
            [distiller.student],
            # Its own loss may read what its layers add.
            functools.partial(_add_loss, distiller.student),
        )
        if self.teacher is not run_teacher or self.student is not run_student:
            self.snapshot = _snapshot_of_models(distiller)

    def follow_changes(self, distiller):
        """Makes the functions again where the models have changed since."""
        self.is_checked = True
        before = self.snapshot
        if before is not None and not before.is_same(_snapshot_of_models(distiller)):
            self.compile(distiller)


def teacher_forward(distiller, x, variable_values=None):
    """Runs the teacher, without gradient or lasting effect. Returns a `ForwardPass`."""
    teacher = distiller.teacher_reference.teacher
    run = _find_compiled(distiller, "teacher")
    run = run or functools.partial(_run_teacher, distiller)
    seeds = distiller.teacher_seeds
    return without_effect(teacher, lambda: run(x), variable_values, seeds)


def student_forward(distiller, inputs, training):
    """Runs the student on `TrainingInputs`. Returns a `ForwardPass`."""
    if inputs.gradient_targets is not None:
        layers = captured_layers(distiller, "student")
        return input_gradients.student_forward_with_gradient(
            distiller, inputs, training, layers
        )
    run = _find_compiled(distiller, "student")
    run = run or functools.partial(_run_student, distiller)
    return run(inputs.x, training)


def _find_compiled(distiller, side):
    """One of the `ModelPasses`, or `None` where models or losses may be others now."""
    # Whatever changes them takes Keras's function too. Outside of a run they may also
    # be other than its preparation found them, or run in a scope with other weights.
    is_valid = distiller.backend_session.is_training
    if not is_valid or distiller.train_function is None:
        return None
    found = distiller.model_passes
    if not found.is_checked:
        found.follow_changes(distiller)
    return getattr(found, side)


def _add_loss(model, layer, loss):
    (model if layer is None else layer).add_loss(loss)


def _snapshot_of_models(distiller):
    teacher, student = distiller.teacher_reference.teacher, distiller.student
    variables = [*student.variables, *teacher.variables]
    return take_snapshot([student, *teacher.models], variables, [teacher])


def _run_teacher(distiller, x):
    teacher = distiller.teacher_reference.teacher
    with capture(teacher.model, captured_layers(distiller, "teacher")) as features:
        outputs = run_teacher(distiller, teacher, x)
    return ForwardPass(outputs, select_calls(teacher.model, features))


def _run_student(distiller, x, training):
    student = distiller.student
    with capture(student, captured_layers(distiller, "student")) as features:
        outputs = run_student(distiller, x, training)
    return ForwardPass(outputs, select_calls(student, features))


def captured_layers(distiller, side):
    """Names of the layers whose outputs the losses need, sorted."""
    losses = distiller.distillation_losses.values()
    return sorted({name for loss in losses for name in getattr(loss, f"{side}_layers")})
