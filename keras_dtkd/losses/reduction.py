"""From one value a sample to a loss, by Keras's own reduction."""

import keras
from keras import ops

from keras_dtkd import backend
from keras_dtkd.core.masking import get_mask, row_weights


class _IdentityLoss(keras.losses.Loss):
    """Hands values that are losses already to Keras's own reduction.

    `y_true` are the values; `y_pred`, the student's output, only brings its mask.
    """

    def call(self, y_true, y_pred):
        return y_true


_MEAN_REDUCTION = _IdentityLoss(name="weighted_mean", dtype="float32")


def reduce(values, outputs=None, sample_weight=None, global_means=None):
    """The weighted mean of one value a sample, by Keras's own rules.

    Weights of positions, `(batch, time)`, are divided by their mean, as a mask is: the
    result is a mean over valid positions, however much padding there is. Weights of
    samples, `(batch,)`, are not.

    Args:
        values: `(batch,)` or `(batch, ...)`.
        outputs: The student's output tensor. Its mask, if any, is applied.
        sample_weight: `(batch,)` or as `values`. Optional.
        global_means: A function from a list of this device's means to those over the
            samples of all devices. Optional.

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
    positions = None
    if sample_weight is not None:
        sample_weight = ops.convert_to_tensor(sample_weight)
        shape = tuple(sample_weight.shape)
        if shape[rank:] not in ((), (1,)):
            raise ValueError(
                f"`sample_weight` of shape {shape} does not fit losses of shape "
                f"{tuple(values.shape)}. Give one weight a sample, or one a position."
            )
        is_of_positions = has_positions(sample_weight)
        # Keras multiplies the mask into the weights in place under torch: that needs
        # their full shape, and would change those of the caller.
        sample_weight = row_weights(values[..., None], sample_weight)
        if rank > 1 and is_of_positions:
            positions, sample_weight = sample_weight, None
    mask = get_mask(outputs) if rank > 1 else None
    if mask is not None or positions is not None:
        outputs = values
        positions = row_weights(values[..., None], positions, mask)
        positions = normalize_positions(positions, None, global_means)
        has_weights = sample_weight is not None
        sample_weight = positions * sample_weight if has_weights else positions
    return _MEAN_REDUCTION(values, outputs, sample_weight)


def has_positions(sample_weight):
    """Whether weights are those of positions, not of samples alone."""
    return tuple(sample_weight.shape)[1:2] not in ((), (1,))


def reduce_for_logs(values, outputs, step):
    """As `reduce`, with weights of positions: those of samples are left out."""
    weights = step.sample_weight
    has_weights = weights is not None and has_positions(weights)
    return reduce(values, outputs, weights if has_weights else None)


def normalize_positions(weights, mask=None, global_means=None):
    """Weights of positions, `(batch, ...)`, divided by their mean where `mask` is 1.

    `global_means` is as in `reduce`. All of them 0 stay as they are.
    """
    kept = ops.ones_like(weights) if mask is None else ops.cast(mask, weights.dtype)
    # A replica may have no samples, whose mean would be NaN.
    count = ops.maximum(ops.cast(ops.size(kept), "float32"), 1.0)
    means = [ops.sum(weights * kept) / count, ops.sum(kept) / count]
    if global_means is not None:
        means = global_means(means)
    mean = means[0] / ops.where(means[1] > 0, means[1], 1.0)
    return weights / ops.where(mean > 0, mean, 1.0)


def normalize_per_sample(weights, counted=None):
    """Weights of a sample's positions or anchors, divided by their mean.

    Args:
        weights: `(batch, ...)`, not negative. All 0 in a sample stay as they are.
        counted: As weights, not 0 at positions that count. Optional.

    Returns:
        Weights of the same shape, whose mean over what counts of a sample is 1: a mean
        of values times them is a weighted mean. Of `(batch,)` all are 1.
    """
    axes = tuple(range(1, len(weights.shape)))
    if not axes:
        return ops.ones_like(weights)
    counted = ops.ones_like(weights) if counted is None else counted
    counted = ops.cast(ops.greater(counted, 0), weights.dtype)
    mean = ops.sum(weights * counted, axis=axes, keepdims=True)
    mean = mean / ops.maximum(ops.sum(counted, axis=axes, keepdims=True), 1.0)
    return weights / ops.where(mean > 0, mean, 1.0)


def undo_replica_scaling(value):
    """Takes back the division by replicas, for what is logged."""
    replicas = backend.replicas()
    return value * replicas if replicas > 1 else value
