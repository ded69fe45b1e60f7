"""Forward passes that also give the input gradient of each sample's cross-entropy.

One derivative of the sum over the batch gives outputs and gradients together, so that
each row of the gradient is that of its own sample.
"""

import keras
from keras import ops

from keras_dtkd.backend import autodiff
from keras_dtkd.core.autocast import assign_uncast
from keras_dtkd.core.columns import get_columns
from keras_dtkd.core.masking import attach_mask, get_mask
from keras_dtkd.functional.labels import one_hot, to_class_probs
from keras_dtkd.functional.statistics import soft_log_probs
from keras_dtkd.losses.input_gradient_checks import input_gradient_losses
from keras_dtkd.teachers.forward import without_effect
from keras_dtkd.teachers.inputs import read_inputs
from keras_dtkd.teachers.sample_ids import model_inputs, split_sample_ids
from keras_dtkd.training import feature_capture
from keras_dtkd.training.step import ForwardPass, TrainingInputs


def teacher_forward_with_gradient(distiller, x, targets, layers):
    """The teacher's forward pass, with the input gradient of its cross-entropy.

    Returns a `ForwardPass`, and the `TrainingInputs` of the student's. Raises
    `ValueError` where a loss needs labels, and the `TrainingTargets` have none.
    """
    losses = input_gradient_losses(distiller.distillation_losses)
    first = next(iter(losses.values()))
    spec = distiller.output_specs.get(first.distilled_output)
    labels = None
    for name, loss in losses.items():
        if not loss.needs_labels and loss.input_gradient_labels != "data":
            continue
        labels = spec.student.select(targets.labels)
        if labels is None:
            raise ValueError(f"`{name}` needs labels, and there are none.")
    is_needed = any(loss.teacher_input_gradient for loss in losses.values())
    direction = None
    if first.input_gradient != "exact":
        seed = distiller.direction_seed_generator
        direction = sample_direction(model_inputs(x), seed)
    teacher = distiller.teacher_reference.teacher
    (inputs, sample_ids), columns = split_sample_ids(x), get_columns(x)

    def forward(x):
        with feature_capture.capture(teacher.model, layers) as features:
            outputs = teacher.outputs(read_inputs(teacher, x, columns), sample_ids)
        features = feature_capture.select_calls(teacher.model, features)
        logits = spec.teacher.select_logits(outputs)
        if first.input_gradient_labels == "teacher":
            targets = one_hot(ops.argmax(logits, axis=-1), logits)
        else:
            targets = to_class_probs(labels, logits)
        results = {
            "outputs": outputs,
            "features": features,
            "targets": targets,
        }
        return cross_entropy(logits, targets), results

    def forward_and_gradient():
        estimator = first.input_gradient if is_needed else None
        return value_and_input_gradient(estimator, forward, inputs, direction)

    values, seeds = targets.teacher_variables, distiller.teacher_seeds
    results, gradient = without_effect(teacher, forward_and_gradient, values, seeds)
    forward_pass = ForwardPass(results["outputs"], results["features"], gradient)
    return forward_pass, TrainingInputs(x, results["targets"], direction)


def student_forward_with_gradient(distiller, inputs, training, layers):
    """The student's forward pass, with the input gradient of its cross-entropy.

    Everything that the student assigns leaves the derivative before it is assigned:
    what belongs to a derivative means nothing outside of it under JAX.
    """
    losses = input_gradient_losses(distiller.distillation_losses)
    loss = next(iter(losses.values()))
    spec = distiller.output_specs.get(loss.distilled_output).student
    student = distiller.student
    variables = student.variables
    # In mixed precision they may be cast to the compute dtype already.
    values = _variable_values(variables, distiller.compute_dtype)

    def forward(x):
        with keras.StatelessScope(values, collect_losses=True) as scope:
            before = [scope.get_current_value(v) for v in variables]
            with feature_capture.capture(student, layers) as features:
                outputs = student(x, training=training)
            after = [scope.get_current_value(v) for v in variables]
        features = feature_capture.select_calls(student, features)
        masks = map(get_mask, keras.tree.flatten(outputs))
        changes = enumerate(zip(before, after, strict=True))
        logits = spec.select_logits(outputs)
        return cross_entropy(logits, inputs.gradient_targets), {
            "outputs": outputs,
            "features": features,
            "losses": scope.losses,
            "masks": {i: m for i, m in enumerate(masks) if m is not None},
            "state": {i: new for i, (old, new) in changes if new is not old},
        }

    results, gradient = value_and_input_gradient(
        loss.input_gradient, forward, model_inputs(inputs.x), inputs.direction
    )
    state = results["state"]
    assign_uncast([variables[i] for i in state], state.values())
    for value in results["losses"]:
        student.add_loss(value)
    outputs = keras.tree.flatten(results["outputs"])
    for i, mask in results["masks"].items():
        outputs[i] = attach_mask(outputs[i], mask)
    outputs = keras.tree.pack_sequence_as(results["outputs"], outputs)
    return ForwardPass(outputs, results["features"], gradient)


def _variable_values(variables, compute_dtype):
    """Pairs of a variable and its value, as a `keras.StatelessScope` takes them."""

    def is_cast(variable, value):
        dtype = keras.backend.standardize_dtype(value.dtype)
        return dtype == compute_dtype != variable.dtype

    # In mixed precision `__call__` has them cast: they are left out, and read where
    # they are. JAX's step, which has them elsewhere, does not go through it.
    pairs = [(variable, variable.value) for variable in variables]
    return [pair for pair in pairs if not is_cast(*pair)]


def sample_direction(x, seed):
    """Standard normal numbers, nested and shaped as the inputs, at least float32."""
    return keras.tree.map_structure(
        lambda a: keras.random.normal(
            ops.shape(a), dtype=_at_least_float32(a.dtype), seed=seed
        ),
        x,
    )


def cross_entropy(logits, targets):
    """Of each sample: `−Σ targets · log softmax(logits)` over all axes, `(batch,)`."""
    axes = tuple(range(1, len(logits.shape)))
    return -ops.sum(targets * soft_log_probs(logits), axis=axes)


def value_and_input_gradient(estimator, fn, x, direction):
    """A function's results, and how its values change with the inputs.

    Args:
        estimator: `"exact"`, `"jvp"` or `"finite_difference"`; `None` for no gradient.
        fn: From inputs to `(values, results)`, one value a sample.
        x: Inputs.
        direction: Nested as the inputs. `"exact"` needs none.

    Returns:
        `(results, gradient)`, float32: of the sum of values, nested as the inputs, or
        the derivative of each value along the direction, `(batch,)`.
    """

    def total(x):
        values, results = fn(x)
        return ops.sum(values), results

    if estimator is None:
        return fn(x)[1], None
    # Half precision leaves nothing of small gradients. Each model casts its own.
    x = keras.tree.map_structure(lambda a: ops.cast(a, _at_least_float32(a.dtype)), x)
    if estimator == "exact":
        (_, results), gradient = autodiff.value_and_input_grad(total, x, has_aux=True)
    else:
        derivative = getattr(autodiff, estimator)
        (_, results), gradient = derivative(fn, x, direction, has_aux=True)
    return results, keras.tree.map_structure(lambda a: ops.cast(a, "float32"), gradient)


def _at_least_float32(dtype):
    return keras.backend.result_type(keras.backend.standardize_dtype(dtype), "float32")
