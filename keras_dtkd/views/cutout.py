"""A hole in each image."""

import keras

from keras_dtkd.views.base import BuiltInView


@keras.saving.register_keras_serializable("keras_dtkd")
class Cutout(BuiltInView):
    """Each image with a hole of its own proportions, somewhere inside.

    `keras.layers.RandomErasing` cuts a hole in each image; the code of R2KD cuts the
    same one in the whole batch, 8 of 32 pixels wide.

    Args:
        side: Width and height of the hole, as shares of the image's. In (0, 1].
        fill_value: What is seen in the hole, any number. 0 is the mean of normalized
            images.
        seed: Of the random numbers.
        name: What losses call it by.
        data_format: `"channels_last"` or `"channels_first"`. `None`: Keras's setting.

    Raises:
        ValueError: `side` out of its range.

    Reference:
        DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks
        with Cutout", arXiv 1708.04552; as a view of a batch: Kim et al. (R2KD),
        arXiv 2311.13934.

    Example:

    >>> losses = {"kd": KD(), "holes": KD(view="cutout")}
    >>> Distiller(teacher, student, losses, views=Cutout()).fit(x, y)
    """

    def __init__(
        self,
        side=0.25,
        fill_value=0.0,
        seed=None,
        name=None,
        data_format=None,
        **kwargs,
    ):
        if not 0 < side <= 1:
            raise ValueError(
                f"`Cutout`: `side` must lie in (0, 1]. Received: side={side!r}."
            )
        layer = keras.layers.RandomErasing(
            factor=(1.0, 1.0),
            scale=(side * side, side * side),
            fill_value=float(fill_value),
            # Else Keras clips it to [0, 255].
            value_range=(float(fill_value), float(fill_value)),
            seed=seed,
            data_format=data_format,
            dtype="float32",
        )
        super().__init__(layer, name=name, **kwargs)
        self.side, self.fill_value, self.seed = side, fill_value, seed
        self.data_format = layer.data_format
