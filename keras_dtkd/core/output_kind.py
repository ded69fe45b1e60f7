"""Which kind of output a model has: known from its layers, its values or its loss."""

from keras_dtkd.core import logits
from keras_dtkd.core.compiled_loss import canonical_loss_name, declared_from_logits
from keras_dtkd.core.logits import OutputKind


def resolve_output_kind(
    caller, role, model, symbolic_output, from_logits, loss, num_outputs, evaluate
):
    """Decides whether an output holds logits or probabilities.

    The layers decide. Where they are unknown, the model is evaluated, and its values
    and the loss decide.

    Args:
        caller: The public class or function, for error messages.
        role: What the model is called in error messages.
        model: A `keras.Model`, or `None` where only the values are known.
        symbolic_output: One of the model's symbolic outputs. The only one if `None`.
        from_logits: The user's statement: `True`, `False` or `"auto"`.
        loss: The loss of this output, or `None`.
        num_outputs: Length of the last axis.
        evaluate: Function without arguments that returns outputs for some samples,
            float32 NumPy.

    Returns:
        An `OutputKind`. A single logit, and logits
        of a binary loss, are `"binary logits"`.

    Raises:
        ValueError: `from_logits` is invalid, or contradicts the layers or the values.
    """
    if from_logits not in (True, False, "auto"):
        raise ValueError(
            f"`{caller}`: `from_logits` must be True, False or 'auto'. Received: "
            f"from_logits={from_logits!r}."
        )
    from_logits = from_logits if from_logits == "auto" else bool(from_logits)
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
    if model is None:
        # Numbers between 0 and 1 alone do not make a sigmoid.
        return False
    declared = declared_from_logits(loss)
    has_readable_layers = bool(getattr(model, "operations", None))
    return declared is False or (declared is None and not has_readable_layers)
