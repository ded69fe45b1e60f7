"""The base of losses that compare hidden features."""

from typing import Any

import keras
from keras import ops

from keras_dtkd.core.layer_tree import iter_layers
from keras_dtkd.core.masking import get_mask, row_weights
from keras_dtkd.losses.base import DistillationLoss


class FeatureLoss(DistillationLoss):
    """Base of the losses on hidden features, which override `compare`.

    The loss is the sum over pairs of features. Both are recorded in the one forward
    pass of each model.

    Args:
        features: Pairs of the student's and the teacher's feature,
            `[("stage2", "backbone/block_3"), ...]`; a single name stands for the same
            one in both models. `keras_dtkd.features(model, x)` lists them. A name is
            `layer#call:part`, of which all but the layer may be left out: the layer's
            name, or the path to it; of a layer that is called several times the call,
            from 0; and of it the `outputs`, the `inputs`, or an attention layer's
            `scores` before and `weights` after the softmax.
        **kwargs: `weight`, `warmup_epochs` and more, see `DistillationLoss`.

    Raises:
        TypeError: `features` are no pairs of names.
        ValueError: None are given.
    """

    def __init__(self, features, **kwargs):
        super().__init__(**kwargs)
        self.features = _check_pairs(type(self).__name__, features)
        self.student_layers = tuple(student for student, _ in self.features)
        self.teacher_layers = tuple(teacher for _, teacher in self.features)

    def compare(self, student, teacher, number=0, weights=None, mask=None):
        """The loss of one pair.

        Args:
            student, teacher: float32, `(batch, ..., channels)`: channels last whatever
                the models' layout is.
            number: Which pair it is.
            weights: `(batch,)`, of the samples in batch statistics, or `None`.
            mask: `(batch, time)`, 1 at real positions of sequences, or `None`.

        Returns:
            One value a sample, `(batch,)`; or one a position, `(batch, time)`.
        """
        raise NotImplementedError(
            f"`{type(self).__name__}` must override `compare(student, teacher, ...)`."
        )

    def build_from_step(self, step):
        """Computes once, so that what does not fit is found before the first step."""
        self.compute(step)

    def read_pair(self, step, number):
        """The two features of a pair as `compare` takes them."""
        names = self.features[number]
        model = getattr(step.teacher, "model", None)
        return (
            _read(self.name, step.student, step.student_features, names[0]),
            _read(self.name, model, step.teacher_features, names[1]),
        )

    def compute(self, step):
        logits, values = step.student_logits, 0.0
        weights = row_weights(logits, step.sample_weight, get_mask(logits))
        for number in range(len(self.features)):
            student, teacher = self.read_pair(step, number)
            mask = _find_mask(step.x, student, weights)
            rows = _weigh_samples(weights)
            value = self.compare(student, teacher, number, rows, mask)
            values = values + _match_rank(value, logits, mask)
        return values


def _check_pairs(name, features):
    pairs = [features] if isinstance(features, str) else list(features or [])
    pairs = [(pair, pair) if isinstance(pair, str) else pair for pair in pairs]
    if not pairs:
        raise ValueError(f"`{name}`: `features` is empty. Give pairs of layers' names.")
    for pair in pairs:
        is_pair = isinstance(pair, list | tuple) and len(pair) == 2
        if not is_pair or not all(isinstance(each, str) and each for each in pair):
            raise TypeError(
                f"`{name}`: `features` must be pairs of names, `[(student's, "
                f"teacher's), ...]`. Received: {pair!r}."
            )
    return [tuple(pair) for pair in pairs]


def _read(loss, model, features, name):
    """A feature, float32 and channels last."""
    feature = features[name]
    if isinstance(feature, list | tuple | dict):
        raise ValueError(
            f"`{loss}`: the feature {name!r} is {len(feature)} tensors. Of a layer "
            "that is called several times, give the call too, from 0, as in "
            f'"{name}#0"; several outputs cannot be compared.'
        )
    feature = ops.cast(feature, "float32")
    # Attention is `(batch, heads, time, time)` in every layout.
    is_map = len(feature.shape) > 3 and not name.endswith((":scores", ":weights"))
    return ops.moveaxis(feature, 1, -1) if is_map and _is_first(model) else feature


def _is_first(model):
    """Whether the channels of a model's maps are the first axis after the batch."""
    formats = (getattr(layer, "data_format", None) for layer in iter_layers(model))
    default = keras.config.image_data_format()
    return next((f for f in formats if f is not None), default) == "channels_first"


def _find_mask(x, feature, weights):
    """Real positions of padded sequences, `(batch, time)`, or `None`.

    By the inputs' `padding_mask`, or the weights of sequences of that length.
    """
    mask: Any = x.get("padding_mask") if isinstance(x, dict) else None
    if mask is None and weights is not None and len(weights.shape) == 2:
        mask = weights > 0
    shape = tuple(feature.shape)
    is_sequence = len(shape) == 3 or (len(shape) == 4 and shape[2] == shape[3])
    if mask is None or not is_sequence or mask.shape[1] != shape[-2]:
        return None
    return ops.cast(mask, "float32")


def _weigh_samples(weights):
    """The weight of each sample, of weights of positions their greatest."""
    if weights is None or len(weights.shape) == 1:
        return weights
    return ops.max(weights, axis=tuple(range(1, len(weights.shape))))


def _match_rank(values, logits, mask):
    """Values of the axes of the losses on logits, `(batch,)` or `(batch, time)`."""
    rank = len(logits.shape) - 1
    if len(values.shape) > rank:
        mask = ops.ones_like(values) if mask is None else mask
        total = ops.maximum(ops.sum(mask, axis=1), 1.0)
        values = ops.sum(values * mask, axis=1) / total
    for _ in range(rank - len(values.shape)):
        values = ops.expand_dims(values, -1)
    return ops.broadcast_to(values, ops.shape(logits)[:-1])


def flatten_samples(feature, mask=None):
    """`(batch, ...)` as `(batch, width)`, with 0 at padded positions."""
    if mask is not None:
        feature = feature * ops.reshape(
            mask, (*ops.shape(mask), *(1,) * (len(feature.shape) - 2))
        )
    return ops.reshape(feature, (ops.shape(feature)[0], -1))


def pool_positions(feature, mask=None):
    """The mean over real positions: `(batch, ..., channels)` as `(batch, channels)`."""
    axes = tuple(range(1, len(feature.shape) - 1))
    if not axes or mask is None:
        return ops.mean(feature, axis=axes) if axes else feature
    total = ops.maximum(ops.sum(mask, axis=1, keepdims=True), 1.0)
    return ops.sum(feature * mask[..., None], axis=1) / total
