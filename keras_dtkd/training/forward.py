"""The forward passes of a training step, and the `Step`s that are made of them."""

import keras
from keras import ops

from keras_dtkd.core import arrays
from keras_dtkd.core.logits import to_logits
from keras_dtkd.core.masking import MaskPreserving
from keras_dtkd.losses.resolve import input_gradient_losses
from keras_dtkd.teachers.forward import without_effect
from keras_dtkd.teachers.sample_ids import model_inputs, split_sample_ids
from keras_dtkd.training import feature_capture, input_gradients
from keras_dtkd.training.step import ForwardPass, Step, TrainingInputs, TrainingTargets

_to_logits = MaskPreserving(to_logits)


def teacher_forward(distiller, x, variable_values=None):
    """Runs the teacher on a batch: no gradient, no lasting effect on the teacher.

    Returns a `ForwardPass` without input gradient.
    """
    teacher = distiller.teacher_reference.teacher
    layers = _captured_layers(distiller, "teacher")

    def forward():
        with feature_capture.capture(teacher.model, layers) as features:
            outputs = teacher.outputs(*split_sample_ids(x))
        return ForwardPass(outputs, feature_capture.unwrap_single(features))

    return without_effect(teacher, forward, variable_values, distiller.teacher_seeds)


def student_forward(distiller, inputs, training):
    """Runs the student on `TrainingInputs`. Returns a `ForwardPass`."""
    x, student = model_inputs(inputs.x), distiller.student
    layers = _captured_layers(distiller, "student")
    if inputs.gradient_targets is None:
        with feature_capture.capture(student, layers) as features:
            outputs = student(x, training=training)
        return ForwardPass(outputs, feature_capture.unwrap_single(features))
    loss = next(iter(input_gradient_losses(distiller.distillation_losses).values()))
    return input_gradients.student_forward_with_gradient(
        student,
        x,
        loss,
        distiller.output_specs.get(loss.distilled_output).student.select_logits,
        inputs.gradient_targets,
        inputs.direction,
        layers,
        training,
        distiller.compute_dtype,
        distiller.add_loss,
    )


def forward_teacher_for_step(distiller, x, y):
    """Runs the teacher before the student's step begins.

    Args:
        distiller: The Distiller.
        x: The batch of inputs, as the data gave it.
        y: Labels, `None`, or `TrainingTargets` that hold the teacher's variables.

    Returns:
        `TrainingInputs` and `TrainingTargets`, which take the place of `x` and `y`.
    """
    targets = y if isinstance(y, TrainingTargets) else TrainingTargets(y)
    targets = targets._replace(labels=arrays.drop_placeholder(targets.labels))
    values = targets.teacher_variables
    losses = input_gradient_losses(distiller.distillation_losses)
    direction = gradient_targets = None
    if losses:
        loss = next(iter(losses.values()))
        if loss.input_gradient != "exact":
            direction = input_gradients.sample_direction(
                model_inputs(x), distiller.direction_seed_generator
            )
        pair = distiller.output_specs.get(loss.distilled_output)
        result, gradient_targets = input_gradients.teacher_forward_with_gradient(
            distiller.teacher_reference.teacher,
            x,
            pair.student.select(targets.labels),
            losses,
            pair.teacher.select_logits,
            direction,
            _captured_layers(distiller, "teacher"),
            values,
            distiller.teacher_seeds,
        )
    else:
        result = teacher_forward(distiller, x, values)
    targets = targets._replace(
        teacher_outputs=result.outputs,
        teacher_features=result.features,
        teacher_input_gradient=result.input_gradient,
    )
    return TrainingInputs(x, gradient_targets, direction), targets


class StepBuilder:
    """Builds the `Step`s of one batch: one for each view and output, once each.

    Args:
        distiller: The Distiller.
        inputs: The batch's `TrainingInputs`.
        targets: Its `TrainingTargets`.
        student: The student's `ForwardPass` on the batch.
        sample_weight: Weights of the samples, or of each output's; or `None`.
        training: Whether this is a training step.
    """

    def __init__(
        self, distiller, inputs, targets, student, sample_weight=None, training=True
    ):
        self._distiller, self._training = distiller, training
        self._inputs, self._targets = inputs, targets
        teacher = ForwardPass(
            targets.teacher_outputs,
            targets.teacher_features,
            targets.teacher_input_gradient,
        )
        x = model_inputs(inputs.x)
        self._passes = {None: (x, targets.labels, sample_weight, student, teacher)}
        self._steps: dict = {}

    def __call__(self, view=None, output=None):
        """Builds the step on a view of the batch, for one of the models' outputs.

        Args:
            view: Name of a view; `None` for the batch itself.
            output: Name or index of an output; `None` for the Distiller's.

        Returns:
            The `Step`, and the student's output, whose mask counts.
        """
        if (view, output) not in self._steps:
            self._steps[view, output] = self._build(view, output)
        return self._steps[view, output]

    def _build(self, view, output):
        if view not in self._passes:
            self._passes[view] = self._forward_on_view(view)
        distiller = self._distiller
        student_spec, teacher_spec = distiller.output_specs.get(output)
        x, labels, sample_weight, student, teacher = self._passes[view]

        def select(value):
            """The labels or weights of this output, `None` where it has none."""
            if not isinstance(student.outputs, dict | list | tuple):
                return value
            try:
                return student_spec.select(value)
            except KeyError:
                return None

        step = Step(
            x=x,
            y=select(labels),
            sample_weight=select(sample_weight),
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
        return step, student_spec.select(student.outputs)

    def _forward_on_view(self, view):
        """Both models' passes on a view of the batch, which has no labels."""
        x = self._distiller.views[view](model_inputs(self._inputs.x))
        values = self._targets.teacher_variables
        # Unlike on the batch itself, a gradient is being recorded here.
        teacher = keras.tree.map_structure(
            lambda value: None if value is None else ops.stop_gradient(value),
            teacher_forward(self._distiller, x, values),
        )
        student = self._distiller(TrainingInputs(x), training=self._training)
        return x, None, None, student, teacher


def _captured_layers(distiller, side):
    """Names of the layers whose outputs the losses need, sorted."""
    losses = distiller.distillation_losses.values()
    return sorted({name for loss in losses for name in getattr(loss, f"{side}_layers")})
