"""A model under attack: its error, its gradient, and nothing that changes it."""

import contextlib
import warnings

import keras
import numpy as np
from keras import ops

from keras_dtkd import backend, teachers
from keras_dtkd.attacks import checks, input_diversity, labels
from keras_dtkd.core import logits
from keras_dtkd.core.compiled_loss import compiled_loss
from keras_dtkd.functional.statistics import MIN_LOGIT
from keras_dtkd.preparation.data_peek import Sample
from keras_dtkd.preparation.output_spec import OutputSpec

# So many show whether outputs are probabilities, where the layers do not tell.
LOOKED_AT = 32


class AttackedModel:
    """What an attack asks of a model. In inference mode, compiled once.

    Args:
        who: The function that was called, for messages.
        model: A built `keras.Model` that gives one choice of a class for each sample,
            or a yes or no for each of some labels.
        x: Inputs as float32 NumPy.
        output: Name or index of the output, where there are several.
        from_logits: Whether the model gives logits; "auto" finds out.
        batch_size: Samples at once.
        loss: The loss that the model is trained with, if not by its own `fit`.

    Attributes:
        model: The model.
        batch: Samples at once, always: fewer are filled up.
        rehearsing: Whether an attack only looks whether all fits.

    Raises:
        ValueError: The model is not built, or its output is no such choice.
    """

    def __init__(self, who, model, x, output, from_logits, batch_size, loss=None):
        if not isinstance(model, keras.Model) or not model.built:
            raise ValueError(
                f"`{who}`: `model` must be a built Keras model; call it on a batch "
                f"first. Received: {model!r}."
            )
        if from_logits not in (True, False, "auto"):
            raise ValueError(
                f"`{who}`: `from_logits` must be True, False or 'auto'. Received: "
                f"from_logits={from_logits!r}."
            )
        checks.whole(who, batch_size=batch_size)
        self.who, self.model, self.rehearsing = who, model, False
        self._climbed = False
        self.batch = min(batch_size, len(x))
        self._key, self._speaker = output, teachers.ModelTeacher(model)
        self._names = getattr(model, "output_names", None)
        found = OutputSpec(
            self._speaker,
            "model",
            Sample(x[:LOOKED_AT], None, min(LOOKED_AT, len(x))),
            output,
            from_logits,
            compiled_loss(model) if loss is None else loss,
            False,
            who,
        )
        self._head, self._shape = found.head, found.shape
        if len(self._shape) != 2:
            raise ValueError(
                f"`{who}`: the model's output has the shape {self._shape}. Attacked is "
                "one choice for each sample: `(samples, classes)`."
            )
        self._judge = backend.jit(model.variables, self._judged)
        self._slope = backend.jit(model.variables, self._steepened)

    def labels(self, y, samples):
        """See `keras_dtkd.attacks.labels.to_class_indices`."""
        return labels.to_class_indices(self.who, y, self._shape, self._head, samples)

    @contextlib.contextmanager
    def rehearsal(self):
        """While it is open, an attack checks its arguments and does nothing."""
        self.rehearsing = True
        try:
            yield
        finally:
            self.rehearsing = False

    def filled(self, *arrays):
        """NumPy arrays as tensors of `batch` rows: the rows repeat.

        So nothing is compiled for a smaller batch.
        """
        rows = np.resize(np.arange(len(arrays[0])), self.batch)
        return tuple(ops.convert_to_tensor(array[rows]) for array in arrays)

    def judge(self, x, y):
        """The height of each sample, and whether the model is right: tensors.

        A height rises with the cross-entropy; see `gradient` for `x` and `y`.
        """
        return self._judge(x, y)

    def gradient(self, x, y, matrices=None):
        """The gradient of each sample's height with respect to it.

        It has the direction of the cross-entropy's. Attacks use no more of it.

        Args:
            x: A batch of inputs, a float32 tensor.
            y: Their classes, an integer tensor.
            matrices: From `keras_dtkd.attacks.input_diversity.draw`, as tensors. Optional.

        Returns:
            A tensor of the shape of `x`.
        """
        gradient = self._slope(x, y, matrices)
        if not self._climbed and not bool(ops.any(ops.not_equal(gradient, 0))):
            warnings.warn(
                f"`{self.who}`: the gradient is exactly 0 for all of the first "
                f"{self.batch} inputs: the attack does not know where to go, and what "
                "stands it need not be robust. Look for an `Embedding`, a rounding or "
                "a cast to integers in the model, or for a last activation so sure of "
                "itself that it gives exactly 0 and 1.",
                stacklevel=6,
            )
        self._climbed = True
        return gradient

    def _logits(self, x):
        outputs = logits.select_output(self._speaker.outputs(x), self._key, self._names)
        return logits.to_logits(outputs, self._head)

    def _heights(self, z, y):
        """What rises with the cross-entropy, in the same direction: `(samples,)`.

        The log-odds against the label. The cross-entropy is their softplus, whose slope
        vanishes where a model is sure of itself, and whose gradient then loses all its
        digits in `p - 1`: the model would seem robust.
        """
        label = ops.one_hot(y, z.shape[-1], dtype="bool")
        wanted = ops.sum(ops.where(label, z, 0.0), axis=-1)
        others = ops.logsumexp(ops.where(label, MIN_LOGIT, z), axis=-1)
        odds = others - wanted
        # Several labels of one sample: the sum of cross-entropies.
        return ops.sum(ops.softplus(odds), -1) if len(odds.shape) > 1 else odds

    def _judged(self, x, y):
        z = self._logits(x)
        hits = ops.equal(ops.cast(ops.argmax(z, axis=-1), "int32"), y)
        right = ops.all(hits, axis=-1) if len(hits.shape) > 1 else hits
        return self._heights(z, y), right

    def _steepened(self, x, y, matrices):
        def total(x):
            if matrices is not None:
                x = input_diversity.change(x, *matrices)
            # A sum: each sample's gradient is its own.
            return ops.sum(self._heights(self._logits(x), y))

        return backend.value_and_grad(total, x)[1]
