"""What a model's outputs are, known from its layers, its values or its loss."""

import keras

from keras_dtkd.core import logits
from keras_dtkd.core.arguments import check_choice
from keras_dtkd.core.compiled_loss import canonical_loss_name, declared_from_logits
from keras_dtkd.core.logits import OutputKind


def resolve_output_kind(
    caller, role, model, symbolic_output, from_logits, loss, num_outputs, evaluate
):
    """Decides whether an output holds logits or probabilities.

    The layers decide. Where they are unknown (or `model` is `None`), the values of
    `evaluate()`, float32 NumPy, and the loss of this output decide. A `ValueError`
    where the user's `from_logits` is invalid, or contradicts them; it names `caller`,
    and calls the model by its `role`.

    Returns:
        An `OutputKind`. A single logit (`num_outputs`, the last axis, is 1), and logits
        of a binary loss, are `"binary logits"`.
    """
    check_choice(caller, "from_logits", from_logits, (True, False, "auto"))
    kind = None if model is None else logits.infer_output_kind(model, symbolic_output)
    if kind is None or (kind == OutputKind.LOGITS and from_logits is False):
        values = evaluate()
        in_unit_range = values.size > 0 and values.min() >= 0 and values.max() <= 1
        if from_logits is False and values.size and not in_unit_range:
            raise ValueError(
                f"`{caller}`: `from_logits=False`, but the {role} gives values from "
                f"{values.min():.3g} to {values.max():.3g}, not probabilities. Use "
                "`from_logits='auto'`."
            )
        kind = OutputKind.LOGITS
        if logits.look_like_probabilities(values):
            kind = OutputKind.SOFTMAX
        elif in_unit_range and _may_be_sigmoid(model, from_logits, loss):
            kind = OutputKind.SIGMOID
    if from_logits is True and kind != OutputKind.LOGITS:
        raise ValueError(
            f"`{caller}`: `from_logits=True`, but the {role} gives probabilities: its "
            "last layer is a softmax or sigmoid, or its outputs lie in [0, 1] and sum "
            "to 1. Use `from_logits='auto'`."
        )
    is_binary = is_binary_output(num_outputs, loss)
    return kind.as_multilabel if is_binary else kind


def is_binary_output(num_outputs, loss):
    """Whether each logit is a choice by itself: a single one, or of a binary loss."""
    return num_outputs == 1 or "binary" in canonical_loss_name(loss)


def _may_be_sigmoid(model, from_logits, loss):
    if from_logits != "auto":
        return from_logits is False
    declared = declared_from_logits(loss)
    has_readable_layers = bool(getattr(model, "operations", None))
    is_likely = declared is False or (declared is None and not has_readable_layers)
    # Numbers between 0 and 1 alone do not make a sigmoid.
    return model is not None and is_likely


class Traced(keras.layers.Layer):
    """A function that Keras can trace without running it: `compute_output_spec`."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, *args, **kwargs):
        return self.function(*args, **kwargs)


def compute_output_spec(model, x, **kwargs):
    """The outputs, as `keras.KerasTensor`s, that a model announces for NumPy inputs."""
    x = keras.tree.map_structure(
        lambda a: None if a is None else keras.KerasTensor(a.shape, a.dtype.name), x
    )
    parts, inputs = keras.tree.flatten(x), getattr(model, "inputs", None) or ()
    ranks = [None if part is None else len(part.shape) for part in parts]
    # A functional model announces nothing of inputs that are left out, and takes those
    # of shape `(batch,)` for `(batch, 1)` when it runs alone.
    runs_alone = None in ranks or (
        len(inputs) == len(parts) and ranks != [len(i.shape) for i in inputs]
    )
    model = Traced(model) if runs_alone else model
    return model.compute_output_spec(x, **kwargs)


def symbolic_output(model, key, names=None):
    """One of a model's symbolic outputs, if any, see `logits.select_output`."""
    structure = getattr(model, "output", None)
    if not getattr(model, "outputs", None) or structure is None:
        return None
    return logits.select_output(structure, key, names)


def output_kind_of(model, key, names=None):
    """As `logits.infer_output_kind`, of one of a model's several outputs."""
    output = symbolic_output(model, key, names)
    return None if output is None else logits.infer_output_kind(model, output)
