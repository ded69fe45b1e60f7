"""How each sample's cross-entropy changes with its inputs, found out on the way.

The pass of a model that gives its outputs gives this too: under one derivative, of the
sum over the batch, so that each row of the gradient is that of its own sample.
"""

import contextlib
from typing import Any

import keras
from keras import ops

from keras_dtkd import backend
from keras_dtkd.backend import autodiff
from keras_dtkd.core import logits
from keras_dtkd.core.masking import attach_mask, get_mask
from keras_dtkd.functional.labels import one_hot, to_class_probs
from keras_dtkd.functional.statistics import soft_log_probs
from keras_dtkd.held import Heard
from keras_dtkd.teachers import sample_ids
from keras_dtkd.training import feature_capture


class InputGradients(keras.Model):
    """The part of the Distiller that serves losses on input gradients."""

    held: Any

    def hear_gradient(self, x, labels, values, state):
        """What the teacher says, and how its cross-entropy changes with the inputs.

        Args:
            x: The batch of inputs, as the data gave it.
            labels: Its labels, or `None`.
            values: Values of the teacher's variables under JAX.
            state: Under JAX a list of the state that the step was handed, else empty.
                The random state in it advances.

        Returns:
            A `Heard`.
        """
        losses = input_gradient_losses(self.distillation_losses)
        for name, loss in losses.items():
            needed = loss.needs_labels or loss.input_gradient_labels == "data"
            if needed and labels is None:
                raise ValueError(f"`{name}` needs labels, and there are none.")
        first = next(iter(losses.values()))
        by_teacher = first.input_gradient_labels == "teacher"
        exact, direction = first.input_gradient == "exact", None
        if not exact:
            direction = self._direction(sample_ids.model_inputs(x), state)

        def judge(outputs):
            z = self._teacher_logits(outputs)
            given = None if by_teacher else self._own(labels)
            targets = _argmax_one_hot(z) if by_teacher else to_class_probs(given, z)
            return cross_entropy(z, targets), targets

        wanted = any(loss.teacher_input_gradient for loss in losses.values())
        told = backend.teacher_forward(
            _TeacherWithInputGradient(
                self.held.teacher,
                self._layers_named("teacher"),
                judge,
                first.input_gradient if wanted else None,
                direction,
            ),
            x,
            values,
        )
        return Heard(labels, values=values, direction=direction, **told)

    def _own(self, labels):
        """The labels of the distilled output."""
        try:
            return logits.select_output(labels, self.distilled_output, self._names())
        except KeyError as error:
            raise ValueError(
                "`Distiller`: input gradients need the labels of the distilled output, "
                f"{self.distilled_output!r}. There are: {error.args[0]}."
            ) from error

    def _direction(self, x, state):
        """Standard normal numbers, for each entry of the inputs."""

        def draw():
            return keras.tree.map_structure(
                lambda a: keras.random.normal(
                    ops.shape(a), dtype=_at_least_float32(a.dtype), seed=self.directions
                ),
                x,
            )

        if not state:
            return draw()
        # Under JAX variables are what the step was handed, in Keras's order.
        trainable, values, *rest = state[0]
        variables = self.non_trainable_variables
        with keras.StatelessScope(list(zip(variables, values, strict=True))) as scope:
            drawn = draw()
        values = [scope.get_current_value(variable) for variable in variables]
        state[0] = (trainable, values, *rest)
        return drawn

    @contextlib.contextmanager
    def asking(self, heard):
        """While it is open, the first pass of the student takes the gradient too.

        Args:
            heard: The `Heard` of the batch. Nothing is taken where it has no targets.
        """
        self.held.asked = None if heard.targets is None else heard
        try:
            yield
        finally:
            self.held.asked = None

    def answer_gradient(self, inputs, training):
        """The student's outputs. The gradient is kept for the losses.

        Everything that the student assigns leaves the derivative before it is assigned:
        what belongs to a derivative means nothing outside of it under JAX.
        """
        asked, self.held.asked = self.held.asked, None
        loss = next(iter(input_gradient_losses(self.distillation_losses).values()))
        variables = self.student.variables

        def speak(x):
            names = self._layers_named("student")
            with keras.StatelessScope(values, collect_losses=True) as scope:
                before = [scope.get_current_value(v) for v in variables]
                with feature_capture.capture(self.student, names) as recorded:
                    outputs = self.student(x, training=training)
                after = [scope.get_current_value(v) for v in variables]
            output = logits.select_output(outputs, self.distilled_output, self._names())
            z = logits.to_logits(output, self._heads()[0])
            masks = map(get_mask, keras.tree.flatten(outputs))
            changes = enumerate(zip(before, after, strict=True))
            return cross_entropy(z, asked.targets), {
                "outputs": outputs,
                "features": recorded,
                "losses": scope.losses,
                "masks": {i: m for i, m in enumerate(masks) if m is not None},
                "state": {i: new for i, (old, new) in changes if new is not old},
            }

        values = self._values_of(variables)
        said, gradient = value_and_input_gradient(
            loss.input_gradient, speak, inputs, asked.direction
        )
        for i, value in said["state"].items():
            variables[i].assign(value)
        for added in said["losses"]:
            self.add_loss(added)
        self.held.student_features = said["features"]
        self.held.student_gradient = gradient
        outputs = keras.tree.flatten(said["outputs"])
        for i, mask in said["masks"].items():
            outputs[i] = attach_mask(outputs[i], mask)
        return keras.tree.pack_sequence_as(said["outputs"], outputs)

    def _values_of(self, variables):
        """Pairs of a variable and its value, as a `keras.StatelessScope` takes them."""

        def is_cast(variable, value):
            dtype = keras.backend.standardize_dtype(value.dtype)
            return dtype == self.compute_dtype != variable.dtype

        # In mixed precision `__call__` has them cast: they are left out, and read where
        # they are. JAX's step, which has them elsewhere, does not go through it.
        pairs = [(variable, variable.value) for variable in variables]
        return [pair for pair in pairs if not is_cast(*pair)]


class _TeacherWithInputGradient:
    """A teacher that also tells how its cross-entropy changes with the inputs.

    Args:
        teacher: The `Teacher`.
        layers: Names of its layers to record.
        judge: From its outputs to `(values, targets)`: the cross-entropy of each
            sample, and the labels it is of, one number a class.
        estimator: See `measured`.
        direction: See `measured`.
    """

    def __init__(self, teacher, layers, judge, estimator, direction):
        self.teacher, self.layers, self.judge = teacher, layers, judge
        self.estimator, self.direction = estimator, direction
        self.variables = teacher.variables

    def outputs(self, x, rows=None):
        """A dict: `outputs`, `features`, `targets`, `gradient`."""

        def speak(x):
            model = getattr(self.teacher, "model", None)
            with feature_capture.capture(model, self.layers) as recorded:
                outputs = self.teacher.outputs(x, rows)
            values, targets = self.judge(outputs)
            said = {"outputs": outputs, "features": recorded, "targets": targets}
            return values, said

        said, gradient = value_and_input_gradient(
            self.estimator, speak, x, self.direction
        )
        return {**said, "gradient": gradient}


def input_gradient_losses(losses):
    """The losses that want to know of input gradients, by name."""
    return {n: one for n, one in losses.items() if one.input_gradient is not None}


def cross_entropy(z, targets):
    """Of each sample: `−Σ targets · log softmax(z)` over all its axes, `(batch,)`."""
    axes = tuple(range(1, len(z.shape)))
    return -ops.sum(targets * soft_log_probs(z), axis=axes)


def value_and_input_gradient(estimator, fn, x, direction):
    """What a function says, and how its values change with the inputs.

    Args:
        estimator: `"exact"`, `"jvp"` or `"finite_difference"`; `None` for no gradient.
        fn: From inputs to `(values, said)`, one value a sample.
        x: Inputs.
        direction: Nested as the inputs. `"exact"` needs none.

    Returns:
        `(said, gradient)`. The gradient is float32: of the sum of values, nested as
        the inputs, or the derivative of each value along the direction, `(batch,)`.
    """

    def total(x):
        values, said = fn(x)
        return ops.sum(values), said

    if estimator is None:
        return fn(x)[1], None
    # Half precision leaves nothing of small gradients. Each model casts its own.
    x = keras.tree.map_structure(lambda a: ops.cast(a, _at_least_float32(a.dtype)), x)
    if estimator == "exact":
        (_, said), found = autodiff.value_and_input_grad(total, x, has_aux=True)
    else:
        along = getattr(autodiff, estimator)
        (_, said), found = along(fn, x, direction, has_aux=True)
    return said, keras.tree.map_structure(lambda a: ops.cast(a, "float32"), found)


def _argmax_one_hot(z):
    return one_hot(ops.argmax(z, axis=-1), z)


def _at_least_float32(dtype):
    return keras.backend.result_type(keras.backend.standardize_dtype(dtype), "float32")
