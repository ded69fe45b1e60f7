"""Whether models and data have the input gradients that a loss needs."""

import keras

from keras_dtkd import backend
from keras_dtkd.core.issue import ERROR, Issue


def input_gradient_losses(losses):
    """The losses that need input gradients, by name."""
    return {n: loss for n, loss in losses.items() if loss.input_gradient is not None}


def check_input_gradient(name, loss, context):
    """Input gradients that a loss cannot have."""
    return [
        *_check_arguments(name, loss, context),
        *_check_inputs(name, loss, context),
        *_check_outputs(name, loss, context),
    ]


def _check_arguments(name, loss, context):
    losses = input_gradient_losses(context.losses)
    kinds = dict.fromkeys(
        (o.input_gradient, o.input_gradient_labels, o.distilled_output)
        for o in losses.values()
    )
    if len(kinds) > 1:
        names = ", ".join(f"`{other}`" for other in losses)
        message = (
            f"`Distiller`: {names} need different input gradients (estimator, labels, "
            f"output): {', '.join(map(str, kinds))}. One pass gives one kind."
        )
        hint = "Give all of them the same `estimator`, `labels` and `output`."
        yield Issue("different_input_gradients", ERROR, message, hint)
    if loss.view is not None:
        message = (
            f"`Distiller`: `{name}` takes input gradients on the batch itself, and not "
            f"on the view {loss.view!r}."
        )
        yield Issue("input_gradient_view", ERROR, message, "Leave `view` out.")
    if loss.teacher_input_gradient and context.teacher.needs_sample_ids:
        message = (
            f"`Distiller`: `{name}` needs the teacher's input gradient, and its "
            "outputs are stored."
        )
        yield Issue("stored_gradient", ERROR, message, "Give the teacher itself.")
    if context.is_training and context.compiled and loss.input_gradient == "exact":
        yield from check_second_order("Distiller", context.compiled.jit_compile)


def _check_inputs(name, loss, context):
    for leaf in keras.tree.flatten(context.inputs):
        if not keras.backend.is_float_dtype(str(leaf.dtype)):
            message = (
                f"`Distiller`: `{name}` takes gradients with respect to the inputs, "
                f"and some of them are {leaf.dtype}."
            )
            hint = (
                "Cast pixels, `x.astype('float32')`; tokens and classes have no "
                "gradient."
            )
            yield Issue("integer_inputs", ERROR, message, hint)
            return
    for role, model in models_with_gradient([loss], context.student, context.teacher):
        for tensor in model_input_tensors(model):
            if not keras.backend.is_float_dtype(tensor.dtype):
                message = (
                    f"`Distiller`: the {role} takes inputs of {tensor.dtype}, and "
                    "casts what it is given to them: a cast has no gradient."
                )
                hint = (
                    "Make a model of the same layers that takes floats, "
                    "`keras.Input(..., dtype='float32')`."
                )
                yield Issue("integer_inputs", ERROR, message, hint)


def _check_outputs(name, loss, context):
    spec, _ = context.specs_of(loss)
    if spec is not None and len(spec.shape) != 2:
        message = (
            f"`Distiller`: `{name}` compares one gradient a sample, and outputs of "
            f"shape {spec.shape} have several positions in each."
        )
        hint = "Give models with outputs `(batch, classes)`, or take another loss."
        yield Issue("several_positions", ERROR, message, hint)
    for role in context.zero_gradients:
        message = (
            f"`Distiller`: the gradient of the {role} with respect to its inputs is 0 "
            "in every number, and losses on input gradients have nothing to compare."
        )
        hint = (
            "It looks its inputs up (an `Embedding`), or casts them to integers: take "
            "another loss, or models whose inputs are numbers."
        )
        yield Issue("zero_input_gradient", ERROR, message, hint)


def check_second_order(caller, jit_compile):
    """Under PyTorch, a compiled step with a derivative of a derivative."""
    if jit_compile and backend.backend_name() == "torch":
        message = (
            f"`{caller}`: its step differentiates a derivative, which PyTorch cannot "
            "compile, and it has `jit_compile=True`."
        )
        hint = (
            "Compile it (or the student, whose settings it takes) with "
            "`jit_compile=False` or 'auto', or choose another `estimator`."
        )
        yield Issue("jit_second_order", ERROR, message, hint)


def models_with_gradient(losses, student, teacher):
    """`(role, model)` of the models whose input gradients losses need."""
    models = [("student", student)]
    if any(loss.teacher_input_gradient for loss in losses):
        models += [("teacher", model) for model in teacher.models]
    return models


def model_input_tensors(model):
    """The symbolic inputs of a model, as far as they are known."""
    if not isinstance(model, keras.Model):
        return []
    return keras.tree.flatten(getattr(model, "inputs", None) or [])
