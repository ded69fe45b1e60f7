"""How far a model's confidence is from how often it is right."""

import numbers

import keras
from keras import ops

from keras_dtkd.functional.labels import one_hot
from keras_dtkd.metrics.inputs import check_from_logits, row_weights, to_logits


@keras.saving.register_keras_serializable("keras_dtkd")
class ExpectedCalibrationError(keras.metrics.Metric):
    """Mean gap between confidence and accuracy, over bins of equal confidence.

    `Σ_b (n_b / n) |acc_b − conf_b|`, between 0 and 1. The confidence is the top
    probability, and bin b holds those in `((b − 1) / bins, b / bins]`. All is computed
    from sums over every sample seen, so the size of batches changes nothing.

    `y_true` are labels, integers or one-hot; a sample without one (such as -1) counts
    nowhere. `y_pred` are outputs `(batch, ..., classes)`, or `(batch, ..., 1)` for a
    choice of two. A mask on them is honoured.

    Args:
        bins: How many bins. At least 1.
        from_logits: Whether the outputs are logits, or probabilities. `"auto"` sees
            it in each batch: probabilities lie in [0, 1] and sum to 1. A single output
            does not tell, and is taken for a logit: pass False after a sigmoid. (A
            `Distiller` warns of what its student's layers contradict.)
        name: Its name in the logs.
        dtype: Of the result.

    Attributes:
        count: Sum of weights in each bin, `(bins,)`.
        correct: Of the right ones, likewise.
        confidence: Of weights times confidences, likewise.

    Raises:
        ValueError: `bins` is no integer of at least 1, or another `from_logits`.

    Reference:
        Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599,
        equation 3; 15 bins are theirs.

    Example:

    >>> student.compile("adam", loss, metrics=[ExpectedCalibrationError()])
    """

    def __init__(
        self,
        bins=15,
        from_logits="auto",
        name="expected_calibration_error",
        dtype=None,
    ):
        super().__init__(name=name, dtype=dtype)
        if not isinstance(bins, numbers.Integral) or bins < 1:
            raise ValueError(
                "`ExpectedCalibrationError`: `bins` must be an integer of at least 1. "
                f"Received: bins={bins!r}."
            )
        self.bins = int(bins)
        self.from_logits = check_from_logits(self, from_logits)
        self.count, self.correct, self.confidence = (
            self.add_variable((self.bins,), "zeros", dtype="float32", name=name)
            for name in ("count", "correct", "confidence")
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds a batch.

        Args:
            y_true: Labels: integers `(batch, ...)` or `(batch, ..., 1)`, or one-hot.
            y_pred: Outputs, `(batch, ..., classes)`.
            sample_weight: `(batch,)` or `(batch, ...)`. Optional.
        """
        logits = to_logits(y_pred, self.from_logits)
        label = one_hot(y_true, logits)
        mass = row_weights(y_pred, sample_weight) * ops.sum(label, axis=-1)
        confidence = ops.max(ops.softmax(logits, axis=-1), axis=-1)
        correct = ops.equal(ops.argmax(logits, axis=-1), ops.argmax(label, axis=-1))
        # The upper edge belongs to a bin; a confidence may round to just above 1.
        index = ops.clip(ops.ceil(confidence * self.bins) - 1, 0, self.bins - 1)
        edges = ops.arange(self.bins, dtype="float32")
        mass = mass[..., None] * ops.cast(ops.equal(index[..., None], edges), "float32")

        def total(values):
            return ops.sum(ops.reshape(values, (-1, self.bins)), axis=0)

        self.count.assign_add(total(mass))
        self.correct.assign_add(total(mass * ops.cast(correct, "float32")[..., None]))
        self.confidence.assign_add(total(mass * confidence[..., None]))

    def result(self):
        """The error over all samples seen; 0 before any."""
        gap = ops.sum(ops.abs(self.correct - self.confidence))
        return ops.cast(ops.divide_no_nan(gap, ops.sum(self.count)), self.dtype)

    def assumes_logits(self, shape):
        """Whether it would take outputs of that shape for logits; `None`: it looks."""
        if self.from_logits == "auto":
            return True if shape[-1] == 1 else None
        return bool(self.from_logits)

    def get_config(self):
        """The arguments that make this metric again."""
        return {
            **super().get_config(),
            "bins": self.bins,
            "from_logits": self.from_logits,
        }
