"""A model under attack: its loss, its predictions and its input gradient."""

import warnings

import keras
import numpy as np
from keras import ops

from keras_dtkd import backend
from keras_dtkd.attacks import input_diversity
from keras_dtkd.core import logits
from keras_dtkd.core.arguments import check_positive_int
from keras_dtkd.core.arrays import to_numpy
from keras_dtkd.core.compiled_loss import compiled_loss, select_for_output
from keras_dtkd.core.issue import describe_error
from keras_dtkd.core.layer_tree import find_data_format
from keras_dtkd.core.output_kind import (
    compute_output_spec,
    resolve_output_kind,
    symbolic_output,
)
from keras_dtkd.core.preprocessors import find_image_converter
from keras_dtkd.functional.statistics import MIN_LOGIT

# Samples evaluated to distinguish probabilities from logits where the layers do not.
PROBE_SIZE = 32


class AttackedModel:
    """A classifier in inference mode, compiled once for batches of `batch_size`.

    With `is_dry_run`, attacks validate their arguments and return `x`. Arguments are as
    in `pgd`; `caller` is the public function, for error messages, and `loss` the one
    that the model is trained with, the compiled loss by default.
    """

    def __init__(self, caller, model, x, output, from_logits, batch_size, loss=None):
        if not isinstance(model, keras.Model) or not model.built:
            raise ValueError(
                f"`{caller}`: `model` must be a built Keras model; call it on a batch "
                f"first. Received: {model!r}."
            )
        _check_preprocessor(caller, model)
        check_positive_int(caller, "batch_size", batch_size)
        self.caller, self.model, self.is_dry_run = caller, model, False
        self.batch_size = min(batch_size, len(x))
        self.data_format = find_data_format(model)
        self._output, self._names = output, getattr(model, "output_names", None) or []
        self._gradient_checked = False
        probe, loss = x[:PROBE_SIZE], compiled_loss(model) if loss is None else loss
        self._validate_output(probe)
        self._infer_kind(probe, from_logits, loss)
        # Margin losses and whether predictions are correct, tensors `(samples,)`.
        self.loss_and_correct = backend.jit(model.variables, self._loss_and_correct)
        self._gradient_fn = backend.jit(model.variables, self._input_gradient)

    def _compute_output_spec(self, x):
        """What the model returns for samples that it accepts, `KerasTensor`s."""
        try:
            return compute_output_spec(self.model, x)
        except Exception as error:
            raise ValueError(
                f"`{self.caller}`: the model does not accept samples of shape "
                f"{x.shape[1:]}. Keras raised: {describe_error(error)}"
            ) from error

    def _validate_output(self, x):
        output = self._select_output(self._compute_output_spec(x))
        dtype = keras.backend.standardize_dtype(output.dtype)
        if len(output.shape) != 2 or not keras.backend.is_float_dtype(dtype):
            raise ValueError(
                f"`{self.caller}`: the model's output has the shape "
                f"{tuple(output.shape)} and the dtype {dtype}. Attacks need one "
                "classification for each sample: floats `(samples, classes)`."
            )
        self._num_outputs = output.shape[-1]

    def _select_output(self, outputs):
        try:
            return logits.select_output(outputs, self._output, self._names)
        except KeyError as error:
            names = ", ".join(repr(name) for name in error.args[0])
        several = self._output is None
        problem = "several outputs" if several else f"no output {self._output!r}"
        raise ValueError(
            f"`{self.caller}`: the model has {problem}. Set `output=` to one of: "
            f"{names}."
        )

    def _infer_kind(self, probe, from_logits, loss):
        def evaluate():
            forward = backend.jit(self.model.variables, self._forward)
            values = ops.cast(forward(ops.convert_to_tensor(probe)), "float32")
            return ops.convert_to_numpy(values)

        where = logits.find_name_and_index(self._output, self._names)
        self._kind = resolve_output_kind(
            self.caller,
            "model",
            self.model,
            symbolic_output(self.model, self._output, self._names),
            from_logits,
            select_for_output(loss, *where),
            self._num_outputs,
            evaluate,
        )
        self._multilabel = self._kind.is_multilabel

    def require_float_inputs(self, caller):
        for tensor in keras.tree.flatten(getattr(self.model, "inputs", None) or []):
            if not keras.backend.is_float_dtype(tensor.dtype):
                raise ValueError(
                    f"`{caller}`: the model takes inputs of {tensor.dtype}, and a cast "
                    "to integers has no gradient. Build a model of the same layers "
                    "that takes floats, `keras.Input(..., dtype='float32')`."
                )

    def encode_labels(self, y, num_samples):
        """Labels as class indices, `(samples,)`, or 0 and 1, `(samples, labels)`."""
        y, num_outputs = to_numpy(y), self._num_outputs
        if y.dtype.kind in "OSTU":
            raise ValueError(
                f"`{self.caller}`: labels such as {str(y.flat[0])!r} are not numbers. "
                "Give class indices, numbered as in the model."
            )
        shape: tuple[int, ...] = (num_samples,)
        accepted = f"class indices, {shape}, or one-hot labels of {num_outputs} classes"
        if self._multilabel:
            shape = (num_samples, num_outputs) if num_outputs > 1 else shape
            accepted = f"0 or 1 for each output, {shape}"
        elif y.shape == (num_samples, num_outputs) and num_outputs > 1:
            if not (((y == 0) | (y == 1)).all() and (y.sum(-1) == 1).all()):
                raise ValueError(
                    f"`{self.caller}`: some rows of `y` name several classes, or none. "
                    "Give each sample one class: a class index or a one-hot label. For "
                    "soft labels, `y.argmax(-1)` is the most likely class."
                )
            y = y.argmax(-1)
        if y.shape == (num_samples, 1) and len(shape) == 1:
            y = y[:, 0]
        if y.shape != shape:
            raise ValueError(
                f"`{self.caller}`: labels of shape {y.shape} do not fit {num_samples} "
                f"inputs with {num_outputs} outputs each. Give {accepted}."
            )
        last_class = 1 if self._multilabel else num_outputs - 1
        indices = y.astype("int32")
        if (indices != y).any() or indices.min() < 0 or indices.max() > last_class:
            raise ValueError(
                f"`{self.caller}`: labels from {y.min()} to {y.max()}, but the model "
                f"has the classes 0 to {last_class}. Give class indices, as integers."
            )
        return indices

    def pad_batch(self, *arrays):
        """NumPy arrays as tensors of `batch_size` samples, repeated cyclically.

        A smaller batch would be compiled again.
        """
        indices = np.resize(np.arange(len(arrays[0])), self.batch_size)
        return tuple(ops.convert_to_tensor(array[indices]) for array in arrays)

    def gradient(self, x, y, resize_matrices=None):
        """The gradient of each sample's margin loss with respect to its input."""
        gradient = self._gradient_fn(x, y, resize_matrices)
        if not self._gradient_checked and not bool(ops.any(ops.not_equal(gradient, 0))):
            warnings.warn(
                f"`{self.caller}`: the gradient is exactly 0 for all of the first "
                f"{self.batch_size} inputs. The attack has no direction, so samples "
                "that it does not mislead may not be robust. Possible causes: an "
                "`Embedding`, rounding or a cast to integers in the model, or a "
                "saturated last activation that returns exactly 0 and 1.",
                stacklevel=5,
            )
        self._gradient_checked = True
        return gradient

    def _forward(self, x):
        return self._select_output(self.model(x, training=False))

    def _loss_and_correct(self, x, y):
        class_logits = logits.to_logits(self._forward(x), self._kind)
        correct = ops.equal(ops.cast(ops.argmax(class_logits, axis=-1), "int32"), y)
        if len(correct.shape) > 1:
            correct = ops.all(correct, axis=-1)
        return _margin_loss(class_logits, y), correct

    def _input_gradient(self, x, y, resize_matrices):
        def total_loss(x):
            if resize_matrices is not None:
                rows, columns = resize_matrices
                x = input_diversity.resize(x, rows, columns, self.data_format)
            class_logits = logits.to_logits(self._forward(x), self._kind)
            # Each sample's gradient depends on its own loss only.
            return ops.sum(_margin_loss(class_logits, y))

        return backend.value_and_grad(total_loss, x)[1]


def _check_preprocessor(caller, model):
    """Raises a `ValueError` for a model whose own `fit` converts images."""
    if find_image_converter(model) is not None:
        raise ValueError(
            f"`{caller}`: the model's preprocessor converts the images in `fit` and "
            "`predict`, and an attack acts on what the model itself takes. Prepare the "
            "images first: `x = keras.ops.convert_to_numpy(model.preprocessor(x))`, "
            "for a detector `x, y = model.preprocessor(x, y)`; then set "
            "`model.preprocessor = None`. `epsilon` and `range` are in the units of "
            "the prepared images."
        )


def _margin_loss(class_logits, y):
    """Log-odds of the other classes against the label, `(samples,)`.

    The cross-entropy is their softplus: its gradient has the same direction, but loses
    all digits in `p - 1` for a confident model, which would seem robust.
    """
    is_label = ops.one_hot(y, class_logits.shape[-1], dtype="bool")
    label_logit = ops.sum(ops.where(is_label, class_logits, 0.0), axis=-1)
    other_logits = ops.where(is_label, MIN_LOGIT, class_logits)
    loss = ops.logsumexp(other_logits, axis=-1) - label_logit
    # For several labels, the sum of their cross-entropies.
    return ops.sum(ops.softplus(loss), -1) if len(loss.shape) > 1 else loss
