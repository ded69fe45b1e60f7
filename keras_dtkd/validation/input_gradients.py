"""Whether models and data can tell what losses on input gradients ask."""

import keras
from keras import ops

from keras_dtkd import backend
from keras_dtkd.core import logits
from keras_dtkd.core.layer_tree import iter_layers
from keras_dtkd.losses.resolve import input_gradient_losses
from keras_dtkd.teachers.sample_ids import model_inputs

# So many samples show whether a model has an input gradient at all.
PROBE_SIZE = 8


def validate_input_gradient_losses(distiller, sample):
    """The losses ask for the same, and it can be had.

    Args:
        distiller: The Distiller.
        sample: The `keras_dtkd.preparation.data_peek.Sample`.

    Raises:
        ValueError: They do not, or it cannot.
    """
    losses = input_gradient_losses(distiller.distillation_losses)
    if not losses:
        return
    kinds = {(o.input_gradient, o.input_gradient_labels) for o in losses.values()}
    if len(kinds) > 1:
        asked = " and ".join(f"{how!r} of {whose!r} labels" for how, whose in kinds)
        raise ValueError(
            f"`Distiller`: {', '.join(f'`{name}`' for name in losses)} ask for "
            f"different input gradients, {asked}. One pass gives one kind: give all of "
            "them the same `estimator` and `labels`."
        )
    for name, loss in losses.items():
        _validate_loss(name, loss, distiller.teacher_reference.teacher)
    name = next(iter(losses))
    for leaf in keras.tree.flatten(model_inputs(sample.x)):
        if not keras.backend.is_float_dtype(str(leaf.dtype)):
            raise ValueError(
                f"`Distiller`: `{name}` takes gradients with respect to the inputs, "
                f"and some of them are {leaf.dtype}. Cast pixels, "
                "`x.astype('float32')`; tokens and classes have no gradient."
            )
    require_float_inputs("Distiller", "student", distiller.student)
    for model in _teachers(distiller):
        require_float_inputs("Distiller", "teacher", model)


def require_float_inputs(who, role, model):
    """A model takes floats: a gradient does not pass through a cast to integers.

    Args:
        who: Who asks for the gradient, for messages.
        role: What the model is there.
        model: A `keras.Model`. One whose inputs are not known passes.

    Raises:
        ValueError: It casts an input to integers.
    """
    for taken in _inputs(model):
        if not keras.backend.is_float_dtype(taken.dtype):
            raise ValueError(
                f"`{who}`: the {role} takes inputs of {taken.dtype}, and casts what it "
                "is given to them: a cast has no gradient. Make a model of the same "
                "layers that takes floats, `keras.Input(..., dtype='float32')`."
            )


def require_nonzero_input_gradient(distiller, sample):
    """What looks its inputs up, as tokens, leaves no gradient to them.

    Args:
        distiller: The Distiller, its heads known.
        sample: The `keras_dtkd.preparation.data_peek.Sample`.

    Raises:
        ValueError: A model has none, for any of the first samples.
    """
    if not input_gradient_losses(distiller.distillation_losses):
        return
    key, heads = distiller.distilled_output, distiller.output_kinds
    x = keras.tree.map_structure(
        lambda a: ops.convert_to_tensor(a[:PROBE_SIZE], "float32"),
        model_inputs(sample.x),
    )
    asked = [("student", distiller.student, heads[0])]
    asked += [("teacher", model, heads[1]) for model in _teachers(distiller)]
    for role, model, head in asked:
        # Any other model would have to be run for it.
        if not any(map(_uses_embedding, iter_layers(model))):
            continue
        names = getattr(model, "output_names", None)

        def total(x, model=model, names=names, head=head):
            outputs = logits.select_output(model(x, training=False), key, names)
            return ops.sum(logits.to_logits(outputs, head) ** 2)

        with keras.StatelessScope():
            _, found = backend.value_and_grad(total, x)
        leaves = keras.tree.flatten(found)
        if not any(bool(ops.any(ops.not_equal(leaf, 0))) for leaf in leaves):
            raise ValueError(
                f"`Distiller`: the gradient of the {role} with respect to its inputs "
                "is 0 in every number, and losses on input gradients have nothing to "
                "compare. It looks its inputs up (an `Embedding`), or casts them to "
                "integers: take another loss, or models whose inputs are numbers."
            )


def needs_second_order(distiller):
    """Whether a step derives what is a derivative itself."""
    losses = input_gradient_losses(distiller.distillation_losses).values()
    return any(loss.input_gradient == "exact" for loss in losses)


def reject_jit_second_order(who, model):
    """PyTorch's compiler has no derivative of a derivative.

    Args:
        who: Who asks for it, for messages.
        model: A compiled Distiller.

    Raises:
        ValueError: It is to be compiled by it.
    """
    if backend.backend_name() == "torch" and model.jit_compile:
        raise ValueError(
            f"`{who}`: its step differentiates a derivative, which PyTorch cannot "
            "compile, and it has `jit_compile=True`. Compile it (or the student, whose "
            "settings it takes) with `jit_compile=False` or 'auto', or choose another "
            "`estimator`."
        )


def require_one_output_per_sample(distiller, shape):
    """A sample has one cross-entropy, if a loss asks for its gradient.

    Args:
        distiller: The Distiller.
        shape: Of the student's distilled output.

    Raises:
        ValueError: There are several positions in each.
    """
    for name in input_gradient_losses(distiller.distillation_losses):
        if len(shape) != 2:
            raise ValueError(
                f"`Distiller`: `{name}` compares one gradient a sample, and outputs of "
                f"shape {shape} have several positions in each. Give models with "
                "outputs `(batch, classes)`, or take another loss."
            )


def _inputs(model):
    """Those of a model, as far as they are known."""
    if not isinstance(model, keras.Model):
        return []
    return keras.tree.flatten(getattr(model, "inputs", None) or [])


def _teachers(distiller):
    """The models of the teacher, if a loss asks for its gradient."""
    losses = input_gradient_losses(distiller.distillation_losses).values()
    asked = any(loss.teacher_input_gradient for loss in losses)
    return distiller.teacher_reference.teacher.models if asked else []


def _uses_embedding(layer):
    return isinstance(layer, keras.layers.Embedding) or any(
        not keras.backend.is_float_dtype(taken.dtype) for taken in _inputs(layer)
    )


def _validate_loss(name, loss, teacher):
    if loss.view is not None:
        raise ValueError(
            f"`Distiller`: `{name}` takes input gradients on the batch itself, and not "
            f"on the view {loss.view!r}. Leave `view` out."
        )
    if loss.teacher_input_gradient and teacher.needs_sample_ids:
        raise ValueError(
            f"`Distiller`: `{name}` needs the teacher's input gradient, and its "
            "outputs are stored. Give the teacher itself."
        )
