"""Logits out of any model's outputs.

A softmax forgets only the constant that all logits may share, and no divergence
or temperature here depends on it (but DTKD's published rule, which says so): the
logarithm of probabilities serves as logits. A sigmoid is a choice between two
classes, and so is a single output.
"""

import enum

import keras
import numpy as np
from keras import ops

from keras_dtkd.core.arrays import flatten_deep
from keras_dtkd.functional.scalars import make_scalar
from keras_dtkd.functional.statistics import MIN_LOGIT, clamp


class OutputKind(enum.StrEnum):
    """What a model's output holds."""

    LOGITS = "logits"
    SOFTMAX = "softmax"
    # Probabilities, each label by itself.
    SIGMOID = "sigmoid"
    # Logits, each label by itself.
    BINARY_LOGITS = "binary logits"
    # Numbers of a regression, which choose nothing.
    REGRESSION = "regression"

    @property
    def is_multilabel(self):
        """Whether each label is a choice by itself."""
        return self in (OutputKind.SIGMOID, OutputKind.BINARY_LOGITS)

    @property
    def as_multilabel(self):
        """The kind of logits that are a choice for each label; others stay."""
        return OutputKind.BINARY_LOGITS if self == OutputKind.LOGITS else self

    @property
    def as_regression(self):
        """The kind of numbers that linear outputs are in a regression; others stay."""
        linear = OutputKind.LOGITS, OutputKind.BINARY_LOGITS
        return OutputKind.REGRESSION if self in linear else self

    @classmethod
    def _missing_(cls, value):
        kinds = ", ".join(repr(str(kind)) for kind in cls)
        raise ValueError(f"`output_kind` must be one of {kinds}. Received: {value!r}.")


# Lowest probability. Its logarithm is finite, and so is its slope 1/p times the
# gradient of a scaled loss, which the smallest float32 leaves no room for.
MIN_PROB = 1e-30
# Half a unit in the last place below 1: 1 itself has no logit.
MAX_PROB = 1.0 - 2.0**-24
# The same for outputs in float16, whose gradients overflow at 65504.
MIN_PROB_FP16, MAX_PROB_FP16 = 2.0**-14, 1.0 - 2.0**-11


def output_keys(outputs, names=None):
    """How the outputs in a list are known: by the model's `output_names`, or number.

    A layer that gives two of them gives both its name: then by number.
    """
    names = list(dict.fromkeys(names or ()))
    return names if len(names) == len(outputs) else list(range(len(outputs)))


def find_name_and_index(key, names):
    """An output's name and its place in lists, as far as they are known."""
    names = list(names or ())
    if isinstance(key, int):
        is_known = -len(names) <= key < len(names)
        return names[key] if is_known else key, key
    if key is None:
        return None, 0
    return key, names.index(key) if key in names else None


def select_output(outputs, key, names=None):
    """One of a model's outputs: a tensor out of a tensor, list, tuple or dict.

    `key` is its name or index, `None` where there is only one; `names` are the model's
    `output_names`, for lists. Outputs nested deeper are named by their path, `"a/b"`.
    A `KeyError` with the known names if there is no such.
    """
    outputs = flatten_deep(outputs)
    if not isinstance(outputs, dict | list | tuple):
        return outputs
    is_dict = isinstance(outputs, dict)
    known = list(outputs) if is_dict else output_keys(outputs, names)
    if key is None and len(known) == 1:
        key = known[0]
    if key in known:
        return outputs[key if is_dict else known.index(key)]
    is_index = isinstance(key, int) and not is_dict
    if is_index and -len(outputs) <= key < len(outputs):
        return outputs[key]
    raise KeyError(known)


def to_logits(outputs, output_kind, num_classes=None):
    """Logits from outputs of one kind.

    Args:
        outputs: `(batch, ..., classes)`, of any float dtype.
        output_kind: An `OutputKind`, or its value.
        num_classes: Only the first so many are taken. All by default.

    Returns:
        float32 logits, up to a constant a sample; of a regression its numbers.
        `(batch, ..., classes)`; where each label is a choice by itself a pair for each,
        `(batch, ..., labels, 2)`, or `(batch, ..., 2)` for a single one: first "no",
        then "yes".
    """
    output_kind = OutputKind(output_kind)
    if num_classes is not None:
        outputs = outputs[..., :num_classes]
    half = keras.backend.standardize_dtype(outputs.dtype) == "float16"
    tiny, almost_one = (MIN_PROB_FP16, MAX_PROB_FP16) if half else (MIN_PROB, MAX_PROB)
    outputs = ops.cast(outputs, "float32")
    if output_kind == OutputKind.REGRESSION:
        return outputs
    if output_kind == OutputKind.SOFTMAX:
        return ops.log(ops.maximum(outputs, tiny))
    if output_kind == OutputKind.SIGMOID:
        p = ops.clip(outputs, tiny, almost_one)
        pair = ops.stack([ops.log1p(-p), ops.log(p)], axis=-1)
    elif output_kind == OutputKind.BINARY_LOGITS:
        outputs = clamp(outputs)
        pair = ops.stack([-0.5 * outputs, 0.5 * outputs], axis=-1)
    else:
        return ops.maximum(outputs, make_scalar(MIN_LOGIT, outputs))
    return ops.squeeze(pair, axis=-2) if outputs.shape[-1] == 1 else pair


def infer_output_kind(model, tensor=None):
    """The output kind that a model's last layers show, `None` where they do not.

    `tensor` is one of its symbolic outputs, the only one by default.
    """
    reshaped = False
    for operation in _walk_back_from_output(model, tensor):
        kind = _kind_of_operation(operation)
        if kind is _PASS_THROUGH:
            reshaped = reshaped or not isinstance(operation, _IDENTITY_LAYERS)
        else:
            # What sums to 1 over the last axis may not after a change of shape.
            return None if reshaped and kind == OutputKind.SOFTMAX else kind
    return None


_PASS_THROUGH = "passes on what it gets"
_IDENTITY_LAYERS = keras.layers.Activation, keras.layers.Identity
_PASSING_LAYERS = keras.layers.Identity, keras.layers.Reshape, keras.layers.Flatten


def _kind_of_operation(operation):
    if isinstance(operation, keras.Model):
        return infer_output_kind(operation)
    # Operations (`keras.ops.softmax`) and layers of that name alike; a function of
    # any library is known by its name too.
    activation = getattr(operation, "activation", type(operation))
    name = getattr(activation, "__name__", "").lower()
    if name == "softmax":
        return OutputKind.SOFTMAX if getattr(operation, "axis", -1) == -1 else None
    if name == "sigmoid":
        return OutputKind.SIGMOID
    if name == "linear" and hasattr(operation, "kernel"):
        return OutputKind.LOGITS
    is_passing = name == "linear" or isinstance(operation, _PASSING_LAYERS)
    return _PASS_THROUGH if is_passing else None


def _walk_back_from_output(model, tensor):
    """The layers and operations before an output, from last to first."""
    if isinstance(model, keras.Sequential):
        yield from reversed(model.layers)
        return
    operations = getattr(model, "operations", None)
    if not operations:
        return
    only = len(model.outputs) == 1
    tensor = model.outputs[0] if tensor is None and only else tensor
    operation = _producer(operations, tensor)
    if operation is None and only and isinstance(operations[-1], keras.Model):
        # A nested model's output is its own, not that of this call.
        operation = operations[-1]
    while operation is not None:
        yield operation
        try:
            inputs = keras.tree.flatten(operation.input)
        except (AttributeError, ValueError):
            # Shared, and so with several inputs.
            return
        operation = _producer(operations, inputs[0]) if len(inputs) == 1 else None


def _producer(operations, tensor):
    for operation in reversed(operations):
        try:
            outputs = keras.tree.flatten(operation.output)
        except (AttributeError, ValueError):
            continue
        if any(output is tensor for output in outputs):
            return operation
    return None


def look_like_probabilities(outputs):
    """Whether NumPy values `(..., classes)` are distributions over the last axis.

    All lie in [0, 1], and every row sums to 1 (to 1 %, for half precision).
    """
    outputs = np.asarray(outputs, "float32")
    if outputs.shape[-1] < 2 or not outputs.size:
        return False
    is_inside = (outputs >= 0).all() and (outputs <= 1).all()
    return bool(is_inside and np.abs(outputs.sum(-1) - 1).max() < 0.01)
