"""The base of losses that compare hidden features."""

from typing import Any

from keras import ops

from keras_dtkd.core.layer_tree import find_data_format
from keras_dtkd.core.masking import get_mask, row_weights
from keras_dtkd.losses.base import DistillationLoss
from keras_dtkd.losses.reduction import has_positions
from keras_dtkd.teachers.inputs import read_inputs


class FeatureLoss(DistillationLoss):
    """Base of the losses on hidden features, which override `compare`.

    The loss is the sum over pairs of features. Both are recorded in the one forward
    pass of each model. The models' outputs are not compared: they may be several, and
    of unlike classes.

    Args:
        features: A list of pairs of the student's and the teacher's feature,
            `[("stage2", "backbone/block_3"), ...]`; a single name stands for the same
            one in both models. `keras_dtkd.features(model, x)` lists them. A name is
            `layer#call:part[item]`, of which all but the layer may be left out: the
            layer's name, or the path to it; of a layer that is called several times the
            call, from 0; of it the `outputs`, the `inputs`, or an attention layer's
            `scores` before and `weights` after the softmax; and of several tensors one,
            by its key or index: `"fpn[P3]"`.
        data_formats: Of the student's and the teacher's maps, `"channels_last"` or
            `"channels_first"`. `None`: as their layers have it. Of features with three
            axes the last has the channels in any case: they are sequences.
        **kwargs: `weight`, `warmup_epochs` and more, see `DistillationLoss`.

    Raises:
        TypeError: `features` are no pairs of names.
        ValueError: None are given, or unknown `data_formats`.
    """

    # A sample is a sample here, also where the outputs are sequences.
    counts_positions = False
    compares_outputs = False
    # Of the step that is computed: a projector may have `Dropout` or batch norm.
    _is_training_step = False

    def __init__(self, features, data_formats=None, **kwargs):
        super().__init__(**kwargs)
        name = type(self).__name__
        self.features = _check_pairs(name, features)
        self.student_layers = tuple(student for student, _ in self.features)
        self.teacher_layers = tuple(teacher for _, teacher in self.features)
        known = "channels_last", "channels_first"
        if data_formats is not None and (
            len(data_formats) != 2 or not set(data_formats) <= {*known}
        ):
            raise ValueError(
                f"`{name}`: `data_formats` must be two of {known}. Received: "
                f"{data_formats!r}."
            )
        self.data_formats = data_formats

    def compare(self, student, teacher, number=0, weights=None, masks=(None, None)):
        """The loss of one pair.

        Args:
            student, teacher: float32, `(batch, ..., channels)`: channels last whatever
                the models' layout is.
            number: Which pair it is.
            weights: `(batch,)`, of the samples in batch statistics, or `None`.
            masks: For each feature `(batch, time)`, 1 at real positions of a sequence,
                or `None`.

        Returns:
            One value a sample, `(batch,)`; or one a position, `(batch, time)`.
        """
        raise NotImplementedError(
            f"`{type(self).__name__}` must override `compare(student, teacher, ...)`."
        )

    def compare_in_step(self, step, student, teacher, number, weights, masks):
        """As `compare`, for a loss that needs more of the step than the features."""
        return self.compare(student, teacher, number, weights, masks)

    def build_from_step(self, step):
        """Computes once, so that what does not fit is found before the first step."""
        self.find_data_formats(step)
        self.compute(step)

    def find_data_formats(self, step):
        """Sets `data_formats` where they are `None`; a file keeps them."""
        if self.data_formats is None:
            models = step.student, getattr(step.teacher, "model", None)
            self.data_formats = tuple(map(find_data_format, models))

    def read_pair(self, step, number):
        """The two features of a pair as `compare` takes them."""
        formats = self.data_formats or (None, None)
        sides = step.student_features, step.teacher_features
        names = self.features[number]
        parts = zip(sides, names, formats, strict=True)
        student, teacher = (_read(self.name, *part) for part in parts)
        return student, teacher

    def compute(self, step):
        logits, values = step.student_logits, 0.0
        if logits is None:
            weights = step.sample_weight
            weights = None if weights is None else ops.cast(weights, "float32")
        else:
            weights = row_weights(logits, step.sample_weight, get_mask(logits))
        rows, sides = _weigh_samples(weights), ("student", "teacher")
        # The mean of positions is then made by the reduction.
        weighs_positions = logits is not None and (
            get_mask(logits) is not None
            or (step.sample_weight is not None and has_positions(step.sample_weight))
        )
        positions = weights if logits is None or weighs_positions else None
        self._is_training_step = step.training
        for number, names in enumerate(self.features):
            student, teacher = self.read_pair(step, number)
            pairs = zip(sides, (student, teacher), names, strict=True)
            masks = [_find_mask(step, *pair, positions) for pair in pairs]
            value = self.compare_in_step(step, student, teacher, number, rows, masks)
            values = values + _match_rank(value, logits, masks[0], weighs_positions)
        return values


def _check_pairs(name, features):
    is_pair = isinstance(features, tuple) and len(features) == 2
    if is_pair and all(isinstance(each, str) for each in features):
        raise TypeError(
            f"`{name}`: `features` is a list of pairs. Received a tuple of two names: "
            f"give `[{features!r}]` for one pair."
        )
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


def _is_attention(name):
    return name.endswith((":scores", ":weights"))


def _read(loss, features, name, data_format):
    """A feature, float32 and channels last."""
    feature = features[name]
    if isinstance(feature, list | tuple | dict):
        raise ValueError(
            f"`{loss}`: the feature {name!r} is {len(feature)} tensors. Of a layer "
            "that is called several times, give the call too, from 0, as in "
            f'"{name}#0"; of one that returns several, the key or index: "{name}[0]".'
        )
    feature = ops.cast(feature, "float32")
    # Attention is `(batch, heads, time, time)` in every layout.
    is_map = len(feature.shape) > 3 and not _is_attention(name)
    is_first = is_map and data_format == "channels_first"
    return ops.moveaxis(feature, 1, -1) if is_first else feature


def _find_mask(step, side, feature, name, weights):
    """Real positions of padded sequences, `(batch, time)`, or `None`.

    By the inputs' `padding_mask`, or the weights of sequences of that length.
    """
    if len(feature.shape) != 3 and not _is_attention(name):
        return None
    x = step.x
    if side == "teacher" and step.teacher is not None:
        x = read_inputs(step.teacher, x, step.columns)
    mask: Any = x.get("padding_mask") if isinstance(x, dict) else None
    if mask is None and weights is not None and len(weights.shape) == 2:
        mask = weights > 0
    if mask is None or mask.shape[1] != feature.shape[-2]:
        return None
    return ops.cast(mask, "float32")


def _weigh_samples(weights):
    """The weight of each sample, of weights of positions their greatest."""
    if weights is None or len(weights.shape) == 1:
        return weights
    return ops.max(weights, axis=tuple(range(1, len(weights.shape))))


def _match_rank(values, logits, mask, weighs_positions):
    """Values of the axes of the losses on logits, `(batch,)` or `(batch, time)`.

    Of each sample, `(batch,)`, where there are no logits.
    A mean of what `mask` leaves in: of each sample; or of the batch, unless the
    reduction `weighs_positions`.
    """
    shape = tuple(values.shape[:1] if logits is None else logits.shape[:-1])
    rank = len(shape)
    if rank > 1 and tuple(values.shape[1:]) == shape[1:]:
        if mask is None or weighs_positions:
            return values
        mean = ops.mean(mask)
        return values * mask / ops.where(mean > 0, mean, 1.0)
    if len(values.shape) > 1:
        mask = ops.ones_like(values) if mask is None else mask
        axes = tuple(range(1, len(values.shape)))
        total = ops.maximum(ops.sum(mask, axis=axes), 1.0)
        values = ops.sum(values * mask, axis=axes) / total
    for _ in range(rank - 1):
        values = ops.expand_dims(values, -1)
    if logits is None:
        return values
    return ops.broadcast_to(values, ops.shape(logits)[:-1])


def flatten_samples(feature, mask=None):
    """`(batch, ...)` as `(batch, width)`, with 0 at padded positions."""
    if mask is not None and len(feature.shape) == 4:
        # Attention of each position to each.
        feature = feature * (mask[:, None, :, None] * mask[:, None, None])
    elif mask is not None:
        feature = feature * mask[..., None]
    return ops.reshape(feature, (ops.shape(feature)[0], -1))


def pool_positions(feature, mask=None):
    """The mean over real positions: `(batch, ..., channels)` as `(batch, channels)`."""
    axes = tuple(range(1, len(feature.shape) - 1))
    if len(feature.shape) != 3 or mask is None:
        return ops.mean(feature, axis=axes) if axes else feature
    total = ops.maximum(ops.sum(mask, axis=1, keepdims=True), 1.0)
    return ops.sum(feature * mask[..., None], axis=1) / total
