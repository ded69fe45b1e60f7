"""Entropy of attention."""

import keras
from keras import ops

from keras_dtkd.functional.statistics import entropy
from keras_dtkd.metrics.inputs import fill_ignored, row_weights

# log 0 is not finite. Float32's smallest normal number is 1.2e-38.
MIN_PROBABILITY = 1e-37


@keras.saving.register_keras_serializable("keras_dtkd")
class AttentionEntropy(keras.metrics.Mean):
    """Mean entropy of the rows of an attention, as a share of its maximum.

    `−Σ_j d_ij · log d_ij / log(parents)`, averaged over the rows `i`: 0 where each
    child has one parent, 1 where it has all to equal parts. One metric measures one
    level. It is no metric for `compile`, which passes labels: in `fit`,
    `callbacks.AttentionEntropyLogger` measures and logs it.

    Args:
        name: Name of the metric.
        dtype: Dtype of the result.

    Example:

    >>> metric = AttentionEntropy()
    >>> metric.update_state(mixture.compute_attention()[0])
    >>> metric.result()
    """

    # Cannot be compiled: Keras would pass labels instead of attention.
    requires_teacher_outputs = True

    def __init__(self, name="attention_entropy", dtype=None):
        super().__init__(name=name, dtype=dtype)

    def update_state(self, attention, sample_weight=None):
        """Accumulates rows that sum to 1, `(..., children, parents)`.

        `sample_weight` weighs the first axis, or each row. A `ValueError` for a list.
        """
        if isinstance(attention, list | tuple):
            raise ValueError(
                "`AttentionEntropy` measures one level. Received: a list of "
                f"{len(attention)}, such as all of `compute_attention()`."
            )
        weights = row_weights(attention, sample_weight)
        probs = ops.cast(fill_ignored(attention, weights), "float32")
        log_probs = ops.log(ops.maximum(probs, MIN_PROBABILITY))
        super().update_state(entropy(log_probs, normalized=True), weights)
