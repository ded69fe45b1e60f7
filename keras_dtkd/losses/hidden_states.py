"""Hidden states of transformers, layer by layer."""

import keras
from keras import ops

from keras_dtkd.core.arguments import check_choice
from keras_dtkd.functional.norms import normalize
from keras_dtkd.losses.projected_features import ProjectedFeatureLoss


@keras.saving.register_keras_serializable("keras_dtkd")
class HiddenStates(ProjectedFeatureLoss):
    """Matches the hidden states of chosen layers, `(batch, time, width)`.

    For each position the mean of `(W h_s − h_t)²` over the width, or
    `1 − cos(W h_s, h_t)`. Padding counts nowhere: positions of weight 0, or by a
    `padding_mask` among the inputs.

    Args:
        features: See `FeatureLoss`. TinyBERT's map of layers pairs the student's layer
            m of M with the teacher's m · N / M of N, and the embeddings too.
        distance: `"mse"`, as TinyBERT; or `"cosine"`, as DistilBERT.
        projector: See `ProjectedFeatureLoss`. `"shared"` (the default) is one `Dense`
            for all pairs whose widths differ, as in TinyBERT.
        **kwargs: `weight`, `warmup_epochs` and more, see `DistillationLoss`.

    Raises:
        ValueError: An unknown `distance`. Before the first step: features that cannot
            be brought to one shape.

    Reference:
        Jiao et al., "TinyBERT", arXiv 1909.10351, equations 8 and 9, with one W for
        states and embeddings, as in the authors' code; Sanh et al.,
        "DistilBERT", arXiv 1910.01108, section 3.

    Example:

    >>> pairs = [("layer_0", "layer_1"), ("layer_1", "layer_3")]
    >>> Distiller(teacher, student, [KD(), HiddenStates(pairs)]).fit(x, y)
    """

    def __init__(self, features, distance="mse", projector="shared", **kwargs):
        self.is_shared = isinstance(projector, str) and projector == "shared"
        super().__init__(features, "auto" if self.is_shared else projector, **kwargs)
        choices = "mse", "cosine"
        self.distance = check_choice("HiddenStates", "distance", distance, choices)

    def get_config(self):
        config = super().get_config()
        return {**config, "projector": "shared"} if self.is_shared else config

    def _make_projector(self, names, shape, teacher_shape):
        for known in self.projectors if self.is_shared else ():
            if getattr(known, "kernel", None) is not None and tuple(
                known.kernel.shape
            ) == (shape[-1], teacher_shape[-1]):
                return known
        return super()._make_projector(names, shape, teacher_shape)

    def compare(self, student, teacher, number=0, weights=None, masks=(None, None)):
        if len(student.shape) > 3:
            raise ValueError(
                f"`HiddenStates`: {self.features[number][0]!r} has the shape "
                f"{tuple(student.shape)}, and hidden states are (batch, time, width). "
                "For attention take `AttentionMaps`."
            )
        student = self.project(student, teacher, number)
        if self.distance == "mse":
            return ops.mean((student - teacher) ** 2, axis=-1)
        student, teacher = map(normalize, (student, teacher))
        return 1.0 - ops.sum(student * teacher, axis=-1)
