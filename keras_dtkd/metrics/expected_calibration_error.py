"""Calibration: the difference between confidence and accuracy."""

import keras
from keras import ops

from keras_dtkd.core.arguments import check_choice, check_positive_int
from keras_dtkd.functional.labels import one_hot
from keras_dtkd.metrics.inputs import (
    FROM_LOGITS,
    fill_ignored,
    row_weights,
    to_logits,
)


@keras.saving.register_keras_serializable("keras_dtkd")
class ExpectedCalibrationError(keras.metrics.Metric):
    """Mean absolute difference between confidence and accuracy, over confidence bins.

    `Σ_b (n_b / n) |acc_b − conf_b|`, between 0 and 1. The confidence is the top
    probability, and bin b contains those in `((b − 1) / bins, b / bins]`. The error is
    computed from sums over all samples, so it does not depend on the batch size.

    `y_true` are labels, integers `(batch, ...)` or `(batch, ..., 1)`, or one-hot; a
    sample without a label (such as -1) is ignored. `y_pred` are outputs
    `(batch, ..., classes)`, or `(batch, ..., 1)` for binary classification. A mask on
    them is applied.

    Args:
        bins: Number of bins. At least 1.
        from_logits: Whether the outputs are logits or probabilities. `"auto"` infers
            it from the values of each batch: probabilities lie in [0, 1] and sum to 1.
            A single output is assumed to be a logit: pass `False` after a sigmoid. (A
            `Distiller` warns if this contradicts the student's layers.)
        name: Name of the metric in the logs.
        dtype: Dtype of the result.

    Attributes:
        count: Sum of the sample weights in each bin, `(bins,)`.
        correct: Sum of the weights of correct samples in each bin, `(bins,)`.
        confidence: Sum of weights times confidences in each bin, `(bins,)`.

    Raises:
        ValueError: `bins` is not a positive integer, or `from_logits` is invalid.

    Reference:
        Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599,
        equation 3; they use 15 bins.

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
        caller = "ExpectedCalibrationError"
        self.bins = check_positive_int(caller, "bins", bins)
        self.from_logits = check_choice(caller, "from_logits", from_logits, FROM_LOGITS)
        self.count, self.correct, self.confidence = (
            self.add_variable((self.bins,), "zeros", dtype="float32", name=name)
            for name in ("count", "correct", "confidence")
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Accumulates a batch; `sample_weight` is `(batch,)` or `(batch, ...)`."""
        weights = row_weights(y_pred, sample_weight)
        logits = to_logits(fill_ignored(y_pred, weights), self.from_logits)
        label = one_hot(y_true, logits)
        weights = weights * ops.sum(label, axis=-1)
        logits = fill_ignored(logits, weights)
        confidence = ops.max(ops.softmax(logits, axis=-1), axis=-1)
        correct = ops.equal(ops.argmax(logits, axis=-1), ops.argmax(label, axis=-1))
        # A bin includes its upper edge; a confidence may round to just above 1.
        index = ops.clip(ops.ceil(confidence * self.bins) - 1, 0, self.bins - 1)
        bin_indices = ops.arange(self.bins, dtype="float32")
        is_in_bin = ops.equal(index[..., None], bin_indices)
        weights = weights[..., None] * ops.cast(is_in_bin, "float32")

        def sum_samples(values):
            return ops.sum(ops.reshape(values, (-1, self.bins)), axis=0)

        self.count.assign_add(sum_samples(weights))
        correct = ops.cast(correct, "float32")
        self.correct.assign_add(sum_samples(weights * correct[..., None]))
        self.confidence.assign_add(sum_samples(weights * confidence[..., None]))

    def result(self):
        error = ops.sum(ops.abs(self.correct - self.confidence))
        return ops.cast(ops.divide_no_nan(error, ops.sum(self.count)), self.dtype)

    def assumes_logits(self, shape):
        """Whether outputs of that shape are assumed to be logits; `None`: inferred."""
        if self.from_logits == "auto":
            return True if shape[-1] == 1 else None
        return bool(self.from_logits)

    def get_config(self):
        return {
            **super().get_config(),
            "bins": self.bins,
            "from_logits": self.from_logits,
        }
