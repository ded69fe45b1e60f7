"""Random resizing and padding of images, for the gradients of DI²-FGSM."""

import keras
import numpy as np
from keras import ops

from keras_dtkd.core.layer_tree import get_image_size

MIN_SCALE = 0.9


def sample_resize_matrices(rng, shape, probability, data_format=None):
    """Samples matrices that shrink images and place them on a black background.

    An image is resized with that probability, to a height between 0.9 of the height and
    one pixel less. Returns tensors `(batch, height, height)`, `(batch, width, width)`:
    of one shape for all sizes, so that nothing is compiled again. `data_format` is that
    of the images, by default as Keras is configured.
    """
    height, width = get_image_size(shape, _resolve_format(data_format))
    rows = np.tile(np.eye(height, dtype="float32"), (shape[0], 1, 1))
    columns = np.tile(np.eye(width, dtype="float32"), (shape[0], 1, 1))
    max_height = max(height - 1, 1)
    min_height = min(max(int(MIN_SCALE * height), 1), max_height)
    for i in np.flatnonzero(rng.uniform(size=shape[0]) < probability):
        new_height = rng.integers(min_height, max_height + 1)
        new_width = max(round(width * new_height / height), 1)
        top = rng.integers(height - new_height + 1)
        rows[i] = _resize_matrix(height, new_height, top)
        left = rng.integers(width - new_width + 1)
        columns[i] = _resize_matrix(width, new_width, left)
    return ops.convert_to_tensor(rows), ops.convert_to_tensor(columns)


def resize(images, rows, columns, data_format=None):
    """Applies the matrices of `sample_resize_matrices`."""
    if _resolve_format(data_format) == "channels_last":
        images = ops.einsum("brh,bhwc->brwc", rows, images)
        return ops.einsum("bsw,brwc->brsc", columns, images)
    images = ops.einsum("brh,bchw->bcrw", rows, images)
    return ops.einsum("bsw,bcrw->bcrs", columns, images)


def move_boxes(boxes, rows, columns):
    """Boxes `(batch, boxes, 4)`, as `x, y, x, y`, where `resize` moves their pixels.

    In shares of the image, from 0 to 1.
    """
    moves = []
    for matrix in (columns, rows):
        is_filled = ops.any(ops.greater(matrix, 0), axis=-1)
        size = matrix.shape[-1]
        scale = ops.sum(ops.cast(is_filled, "float32"), axis=-1) / size
        offset = ops.cast(ops.argmax(is_filled, axis=-1), "float32") / size
        moves.append((scale, offset))
    (scale_x, left), (scale_y, top) = moves
    scale = ops.stack([scale_x, scale_y, scale_x, scale_y], axis=-1)
    offset = ops.stack([left, top, left, top], axis=-1)
    return boxes * scale[:, None] + offset[:, None]


def _resize_matrix(size, new_size, offset):
    """`(size, size)`: bilinear resizing to `new_size` pixels that begin at `offset`."""
    center = np.clip((np.arange(new_size) + 0.5) * size / new_size - 0.5, 0, size - 1)
    # The weight of a pixel decreases to 0 at the centers of its neighbors.
    weights = np.maximum(1 - np.abs(center[:, None] - np.arange(size)), 0)
    matrix = np.zeros((size, size), "float32")
    matrix[offset : offset + new_size] = weights
    return matrix


def _resolve_format(data_format):
    return data_format or keras.config.image_data_format()
