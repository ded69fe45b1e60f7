"""The forward passes of a training step, and the `Step`s that are made of them."""

import keras
from keras import ops

from keras_dtkd.core import arrays
from keras_dtkd.core.columns import get_columns
from keras_dtkd.losses.input_gradient_checks import input_gradient_losses
from keras_dtkd.teachers.sample_ids import model_inputs
from keras_dtkd.training import input_gradients, rollout_step, task_loss
from keras_dtkd.training.model_passes import captured_layers, teacher_forward
from keras_dtkd.training.run import cache_global_means
from keras_dtkd.training.step import Step, TrainingInputs, TrainingTargets


def prepare_step(distiller, x, y, sample_weight=None, rollout=None):
    """Runs the rollout, if any, and the teacher before the student's step begins.

    `y` are labels, `None`, or `TrainingTargets` that hold the teacher's variables.
    Returns `TrainingInputs`, `TrainingTargets` and weights in place of what it got.
    """
    targets = y if isinstance(y, TrainingTargets) else TrainingTargets(y)
    targets = targets._replace(labels=arrays.drop_placeholder(targets.labels))
    if rollout is not None:
        batch = x, targets, sample_weight
        x, targets, sample_weight = rollout_step.generate(distiller, rollout, *batch)
    if input_gradient_losses(distiller.distillation_losses):
        result, inputs = input_gradients.teacher_forward_with_gradient(
            distiller, x, targets, captured_layers(distiller, "teacher")
        )
    else:
        result = teacher_forward(distiller, x, targets.teacher_variables)
        inputs = TrainingInputs(x)
    return inputs, targets._replace(teacher=result), sample_weight


class StepBuilder:
    """Builds the `Step`s of one batch: one for each view and output, once each.

    It takes the batch's `TrainingInputs` and `TrainingTargets`, and the student's
    `ForwardPass` on it.
    """

    def __init__(
        self, distiller, inputs, targets, student, sample_weight=None, training=True
    ):
        self._distiller, self._training = distiller, training
        x = model_inputs(inputs.x)
        self._inputs, self._targets = inputs, targets
        labels = targets.labels if targets.rollout is None else targets.rollout.tokens
        self._passes = {None: (x, labels, sample_weight, student, targets.teacher)}
        self._steps: dict = {}

    def of(self, loss):
        """The `Step` of a loss, the output that it compares, and its global means."""
        return self(loss.view, self._distiller.output_specs.key_of(loss))

    def __call__(self, view=None, output=None):
        """As `of`; `None` is the batch itself, and the Distiller's main output."""
        if (view, output) not in self._steps:
            self._steps[view, output] = self._build(view, output)
        return self._steps[view, output]

    def _build(self, view, output):
        if view not in self._passes:
            self._passes[view] = self._forward_on_view(view)
        distiller = self._distiller
        student_spec, teacher_spec = distiller.output_specs.get(output)
        x, labels, sample_weight, student, teacher = self._passes[view]
        has_own_loss = task_loss.is_own(distiller.student)
        output = student_spec.select_compared(student.outputs)
        step = Step(
            x=x,
            columns=get_columns(self._inputs.x),
            y=student_spec.get(labels, labels if has_own_loss else None),
            sample_weight=student_spec.select_weights(sample_weight, has_own_loss),
            student_outputs=student.outputs,
            teacher_outputs=teacher.outputs,
            student_logits=student_spec.select_logits(student.outputs),
            teacher_logits=teacher_spec.select_logits(teacher.outputs),
            student_features=student.features,
            teacher_features=teacher.features,
            student_input_gradient=student.input_gradient,
            teacher_input_gradient=teacher.input_gradient,
            student=distiller.student,
            teacher=distiller.teacher_reference.teacher,
            training=self._training,
        )
        return step, output, cache_global_means(distiller, student)

    def _forward_on_view(self, view):
        """Both models' passes on a view of the batch, which has no labels."""
        layer = self._distiller.views[view]
        x = layer.show(model_inputs(self._inputs.x), get_columns(self._inputs.x))
        teacher = self._targets.teacher
        if not layer.student_only:
            # Unlike on the batch itself, a gradient is being recorded here.
            teacher = teacher_forward(
                self._distiller, x, self._targets.teacher_variables
            )
            teacher = keras.tree.map_structure(
                lambda value: None if value is None else ops.stop_gradient(value),
                teacher,
            )
        training = self._training and not layer.inference
        student = self._distiller(TrainingInputs(x), training=training)
        *_, sample_weight, _, _ = self._passes[None]
        return x, None, sample_weight, student, teacher


def build_steps(distiller, x, y=None, sample_weight=None):
    """A `StepBuilder` for one batch, outside of any training step."""
    inputs, targets, _ = prepare_step(distiller, x, y)
    student = distiller(inputs, training=False)
    return StepBuilder(distiller, inputs, targets, student, sample_weight, False)
