"""From one value a sample to a loss, by Keras's own reduction."""

import keras
from keras import ops

from keras_dtkd import backend
from keras_dtkd.core.masking import row_weights


class _IdentityLoss(keras.losses.Loss):
    """Hands values that are losses already to Keras's own reduction.

    `y_true` are the values; `y_pred`, the student's output, only brings its mask.
    """

    def call(self, y_true, y_pred):
        return y_true


_MEAN_REDUCTION = _IdentityLoss(name="weighted_mean", dtype="float32")


def reduce(values, outputs=None, sample_weight=None):
    """The weighted mean of one value a sample, by Keras's own rules.

    Args:
        values: `(batch,)` or `(batch, ...)`.
        outputs: The student's output tensor. Its mask, if any, is applied.
        sample_weight: `(batch,)` or as `values`. Optional.

    Returns:
        A scalar, divided by the number of replicas under `tf.distribute`.
    """
    rank = len(values.shape)
    if outputs is not None and len(outputs.shape) == rank > 1:
        # Each label by itself: Keras's mask knows positions and no labels.
        if sample_weight is not None and len(sample_weight.shape) == rank:
            values, sample_weight = values * sample_weight, None
        values, rank = ops.mean(values, axis=-1), rank - 1
    # A mask has the rank of the outputs less the classes; where the values have
    # fewer axes, the loss has dealt with it.
    if outputs is None or len(outputs.shape) - 1 != rank:
        outputs = values
    if sample_weight is not None:
        sample_weight = ops.convert_to_tensor(sample_weight)
        shape = tuple(sample_weight.shape)
        if shape[rank:] not in ((), (1,)):
            raise ValueError(
                f"`sample_weight` of shape {shape} does not fit losses of shape "
                f"{tuple(values.shape)}. Give one weight a sample, or one a position."
            )
        # Keras multiplies the mask into the weights in place under torch: that needs
        # their full shape, and would change those of the caller.
        sample_weight = row_weights(values[..., None], sample_weight)
    return _MEAN_REDUCTION(values, outputs, sample_weight)


def undo_replica_scaling(value):
    """Takes back the division by replicas, for what is logged."""
    replicas = backend.replicas()
    return value * replicas if replicas > 1 else value
