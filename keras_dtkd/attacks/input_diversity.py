"""Images at another size and place, as the gradient of DI²-FGSM sees them.

Bilinear resizing is linear and separable: a matrix for the rows and one for the
columns. Shapes stay the same whatever was drawn, so nothing is compiled again.
"""

import keras
import numpy as np
from keras import ops

SMALLEST = 0.9


def draw(rng, shape, probability):
    """Matrices that shrink images and put them somewhere on black.

    Args:
        rng: A NumPy generator.
        shape: Of the images, `(batch, height, width, channels)`, or as Keras is
            configured.
        probability: With which an image is changed; the others keep the identity.

    Returns:
        float32 `(batch, height, height)` and `(batch, width, width)`. The smaller
        height is uniform from 0.9 of the height to one pixel less than it.
    """
    height, width = shape[1:3] if _last() else shape[2:]
    rows = np.tile(np.eye(height, dtype="float32"), (shape[0], 1, 1))
    columns = np.tile(np.eye(width, dtype="float32"), (shape[0], 1, 1))
    most = max(height - 1, 1)
    least = min(max(int(SMALLEST * height), 1), most)
    for i in np.flatnonzero(rng.uniform(size=shape[0]) < probability):
        small = rng.integers(least, most + 1)
        narrow = max(round(width * small / height), 1)
        rows[i] = _matrix(height, small, rng.integers(height - small + 1))
        columns[i] = _matrix(width, narrow, rng.integers(width - narrow + 1))
    return rows, columns


def _matrix(size, small, offset):
    """`(size, size)`: bilinear from `size` to `small` pixels, the first at `offset`."""
    centre = np.clip((np.arange(small) + 0.5) * size / small - 0.5, 0, size - 1)
    # A pixel's weight falls to 0 at its neighbours' centres.
    weights = np.maximum(1 - np.abs(centre[:, None] - np.arange(size)), 0)
    matrix = np.zeros((size, size), "float32")
    matrix[offset : offset + small] = weights
    return matrix


def change(images, rows, columns):
    """The images as the matrices say."""
    if _last():
        images = ops.einsum("brh,bhwc->brwc", rows, images)
        return ops.einsum("bsw,brwc->brsc", columns, images)
    images = ops.einsum("brh,bchw->bcrw", rows, images)
    return ops.einsum("bsw,bcrw->bcrs", columns, images)


def _last():
    return keras.config.image_data_format() == "channels_last"
