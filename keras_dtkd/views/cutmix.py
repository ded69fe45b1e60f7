"""A piece of one image in another."""

import keras

from keras_dtkd.views.base import BuiltInView


@keras.saving.register_keras_serializable("keras_dtkd")
class CutMix(BuiltInView):
    """Each image with a rectangle cut out of another of its batch.

    `keras.layers.CutMix` draws a rectangle for each image; the code of R2KD draws
    one for the whole batch.

    Args:
        alpha: Of the Beta(α, α) distribution of areas; 1 draws them uniformly.
            Positive, at most 1.
        seed: Of the random numbers.
        name: What losses call it by.
        data_format: `"channels_last"` or `"channels_first"`. `None`: Keras's setting.

    Raises:
        ValueError: `alpha` out of its range.

    Reference:
        Yun et al., "CutMix", arXiv 1905.04899; as a view of a batch: Kim et al.
        (R2KD), arXiv 2311.13934.

    Example:

    >>> losses = {"kd": KD(), "cut": KD(view="cutmix")}
    >>> Distiller(teacher, student, losses, views=CutMix()).fit(x, y)
    """

    def __init__(self, alpha=1.0, seed=None, name=None, data_format=None, **kwargs):
        if not 0 < alpha <= 1:
            raise ValueError(
                f"`CutMix`: `alpha` must lie in (0, 1]. Received: alpha={alpha!r}."
            )
        # A number would be the upper end of a range to draw α from.
        layer = keras.layers.CutMix(
            factor=(alpha, alpha), seed=seed, data_format=data_format, dtype="float32"
        )
        super().__init__(layer, name=name, **kwargs)
        self.alpha, self.seed, self.data_format = alpha, seed, layer.data_format
