"""Two images over each other."""

import keras

from keras_dtkd.core.arguments import check_in_range
from keras_dtkd.views.base import BuiltInView


@keras.saving.register_keras_serializable("keras_dtkd")
class Mixup(BuiltInView):
    """Each image over another of its batch, `λ x_i + (1 − λ) x_j`.

    `keras.layers.MixUp` draws a λ from Beta(α, α) for each image; the code of R2KD
    draws one for the whole batch.

    Args:
        alpha: α. Small values mix little. Positive.
        seed: Of the random numbers.
        name: What losses call it by.

    Raises:
        ValueError: `alpha` is not positive.

    Reference:
        Zhang et al., "mixup: Beyond Empirical Risk Minimization", arXiv 1710.09412;
        as a view of a batch: Kim et al. (R2KD), arXiv 2311.13934.

    Example:

    >>> losses = {"kd": KD(), "mixed": KD(view="mixup")}
    >>> Distiller(teacher, student, losses, views=Mixup()).fit(x, y)
    """

    def __init__(self, alpha=0.2, seed=None, name=None, **kwargs):
        check_in_range("Mixup", "alpha", alpha, 0)
        layer = keras.layers.MixUp(alpha=alpha, seed=seed, dtype="float32")
        super().__init__(layer, name=name, **kwargs)
        self.alpha, self.seed = alpha, seed
