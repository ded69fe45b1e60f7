"""Attention of transformers: what each position looks at."""

import keras
from keras import ops

from keras_dtkd.losses.feature_base import FeatureLoss


@keras.saving.register_keras_serializable("keras_dtkd")
class AttentionMaps(FeatureLoss):
    """Matches the attention of chosen layers, `(batch, heads, time, time)`.

    For each position the mean of `(A_s − A_t)²` over heads and real positions. Models
    of unlike numbers of heads are compared by the mean over their heads. Padding, by a
    `padding_mask` among the inputs, counts nowhere.

    Args:
        features: See `FeatureLoss`: names that end with `:scores`, the attention before
            its softmax, as TinyBERT compares it; or with `:weights`, after it.
        **kwargs: `weight`, `warmup_epochs` and more, see `DistillationLoss`.

    Raises:
        ValueError: Before the first step: a layer without attention; features that are
            no attention, or of unlike lengths.

    Reference:
        Jiao et al., "TinyBERT", arXiv 1909.10351, equation 7, which found the scores to
        converge faster than the weights. The authors' code sets scores of padding to 0,
        and takes the mean over them too. Its models are bidirectional: of a causal one,
        scores of later positions count too, and `:weights` are 0 there.

    Example:

    >>> pairs = [("layer_0:scores", "layer_1:scores")]
    >>> Distiller(teacher, student, [KD(), AttentionMaps(pairs)]).fit(x, y)
    """

    def compare(self, student, teacher, number=0, weights=None, masks=(None, None)):
        shapes = tuple(student.shape), tuple(teacher.shape)
        if any(len(shape) != 4 for shape in shapes) or shapes[0][2:] != shapes[1][2:]:
            raise ValueError(
                f"`AttentionMaps`: features of shapes {shapes[0]} and {shapes[1]} "
                "cannot be compared: needed is `(batch, heads, time, time)` of one "
                "length. Name them with `:scores` or `:weights`."
            )
        if shapes[0][1] != shapes[1][1]:
            student, teacher = (
                ops.mean(a, axis=1, keepdims=True) for a in (student, teacher)
            )
        mask, _ = masks
        if mask is None:
            return ops.mean((student - teacher) ** 2, axis=(1, 3))
        # Scores of padding may be minus infinity.
        is_key = ops.broadcast_to(mask[:, None, None] > 0, ops.shape(student))
        student, teacher = (ops.where(is_key, a, 0.0) for a in (student, teacher))
        squares = ops.mean((student - teacher) ** 2, axis=1)
        total = ops.maximum(ops.sum(mask, axis=1, keepdims=True), 1.0)
        return ops.sum(squares, axis=-1) / total
