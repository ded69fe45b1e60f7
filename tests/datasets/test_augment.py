"""Crops and flips equal their definition, pixel by pixel."""

import numpy as np
import pytest

from keras_dtkd.datasets.pipeline import crop_and_flip

pytest.importorskip("tensorflow")


def reference(images, offsets, flips):
    """Image by image: pad with zeros, crop, flip."""
    height, width = images.shape[1:3]
    results = []
    for image, (top, left), flip in zip(images, offsets, flips, strict=True):
        padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
        crop = padded[top : top + height, left : left + width]
        results.append(crop[:, ::-1] if flip else crop)
    return np.stack(results)


@pytest.mark.parametrize("shape", [(32, 32, 3), (28, 28, 1), (7, 12, 2)])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_equals_cropping_image_by_image(shape, dtype):
    rng = np.random.default_rng(0)
    # Every pair of offsets, with and without a flip.
    offsets = np.stack(np.meshgrid(range(9), range(9), range(2)), -1).reshape(-1, 3)
    images = rng.integers(1, 256, (len(offsets), *shape)).astype(dtype)
    offsets, flips = offsets[:, :2].astype("int32"), offsets[:, 2] == 1
    result = crop_and_flip(images, offsets, flips).numpy()
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, reference(images, offsets, flips))


def test_the_center_crop_is_the_image():
    images = np.arange(2 * 5 * 5 * 3, dtype="uint8").reshape(2, 5, 5, 3)
    offsets, flips = np.full((2, 2), 4, "int32"), np.array([False, True])
    result = crop_and_flip(images, offsets, flips)
    np.testing.assert_array_equal(result[0], images[0])
    np.testing.assert_array_equal(result[1], images[1][:, ::-1])
