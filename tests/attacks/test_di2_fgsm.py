"""Momentum and input diversity, compared with the papers' formulas."""

import keras
import numpy as np
import pytest

from keras_dtkd.attacks import di2_fgsm, input_diversity, pgd
from tests.attacks import oracle
from tests.attacks.oracle import inputs, network

X, Y = inputs()
IMAGES = np.random.default_rng(0).uniform(0.2, 0.8, (5, 12, 10, 2)).astype("float32")


@pytest.mark.parametrize("steps", [1, 2, 6])
def test_without_diversity_di2_fgsm_is_mi_fgsm(steps):
    x_adv = di2_fgsm(network(), X, Y, 0.3, steps=steps, diversity=0)
    expected = oracle.iterate(X, Y, 0.3, steps, 0.3 / steps, momentum=1.0)
    np.testing.assert_allclose(x_adv, expected, atol=1e-5)
    if steps == 6:
        without_momentum = oracle.iterate(X, Y, 0.3, steps, 0.3 / steps)
        assert np.abs(without_momentum - expected).max() > 0.01


def resize_matrices(rng, shape, probability):
    matrices = input_diversity.sample_resize_matrices(rng, shape, probability)
    return tuple(map(keras.ops.convert_to_numpy, matrices))


def tile(matrix):
    return np.tile(matrix, (5, 1, 1))


def linear(w):
    """Two classes with logits 0 and `w · x`."""
    model = keras.Sequential(
        [keras.Input(w.shape), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    flat = w.ravel()
    model.set_weights([np.stack([0 * flat, flat], -1), np.zeros(2)])
    return model


def test_one_step_follows_the_gradient_of_the_resized_image():
    w = np.random.default_rng(1).normal(size=IMAGES.shape[1:]).astype("float32")
    y = np.zeros(5, int)
    x_adv = di2_fgsm(linear(w), IMAGES, y, 0.05, steps=1, diversity=1.0, seed=4)
    rng = np.random.default_rng(np.random.SeedSequence(4).spawn(1)[0])
    rows, columns = resize_matrices(rng, IMAGES.shape, 1.0)
    # d/dx of w · (R x Cᵀ) is Rᵀ w C.
    slope = np.einsum("brh,rsc,bsw->bhwc", rows, w, columns)
    np.testing.assert_allclose(x_adv, IMAGES + 0.05 * np.sign(slope), atol=1e-6)
    assert (np.sign(slope) != np.sign(w)).mean() > 0.1


def test_an_image_is_shrunk_and_placed_on_black():
    rng = np.random.default_rng(0)
    rows, columns = resize_matrices(rng, (200, *IMAGES.shape[1:]), 1.0)
    heights, offsets = set(), set()
    for r, c in zip(rows[:40], columns[:40], strict=True):
        used = np.flatnonzero(r.sum(-1))
        height, top = len(used), used[0]
        width, left = (c.sum(-1) > 0).sum(), np.flatnonzero(c.sum(-1))[0]
        heights.add(height)
        offsets.add((height, top))
        small = keras.ops.convert_to_numpy(
            keras.ops.image.resize(IMAGES, (height, width), antialias=False)
        )
        expected = np.zeros_like(IMAGES)
        expected[:, top : top + height, left : left + width] = small
        resized = input_diversity.resize(
            *map(keras.ops.convert_to_tensor, (IMAGES, tile(r), tile(c)))
        )
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(resized), expected, atol=1e-5
        )
    assert heights == {10, 11} and len(offsets) == 5


def test_the_probability_is_the_fraction_of_resized_images():
    rows, _ = resize_matrices(np.random.default_rng(0), (500, 8, 8, 1), 0.3)
    resized = (rows != np.eye(8)).any((1, 2)).mean()
    assert abs(resized - 0.3) < 0.06
    rows, columns = resize_matrices(np.random.default_rng(0), (9, 8, 8, 1), 0.0)
    assert (rows == np.eye(8)).all() and (columns == np.eye(8)).all()


def convolutional(data_format):
    keras.utils.set_random_seed(0)
    shape = (12, 10, 2) if data_format == "channels_last" else (2, 12, 10)
    options = {"data_format": data_format}
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Conv2D(4, 3, activation="relu", **options),
            keras.layers.GlobalAveragePooling2D(**options),
            keras.layers.Dense(2),
        ]
    )


@pytest.mark.single_backend
def test_the_layout_of_images_is_the_models():
    y, options = np.arange(5) % 2, {"steps": 3, "diversity": 1.0, "seed": 0}
    first = np.ascontiguousarray(IMAGES.transpose(0, 3, 1, 2))
    model = convolutional("channels_last")
    expected = di2_fgsm(model, IMAGES, y, 0.1, **options)
    other = convolutional("channels_first")
    other.set_weights(model.get_weights())
    found = di2_fgsm(other, first, y, 0.1, **options).transpose(0, 2, 3, 1)
    # A gradient too close to 0 has no reliable sign.
    assert (np.abs(found - expected) < 1e-5).mean() > 0.99


def test_channels_first_images_are_resized_alike():
    rng = np.random.default_rng(0)
    matrices = resize_matrices(rng, IMAGES.shape, 1.0)
    channels_last = input_diversity.resize(
        *map(keras.ops.convert_to_tensor, (IMAGES, *matrices))
    )
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        transposed = np.ascontiguousarray(IMAGES.transpose(0, 3, 1, 2))
        rng = np.random.default_rng(0)
        matrices = resize_matrices(rng, transposed.shape, 1.0)
        channels_first = input_diversity.resize(
            *map(keras.ops.convert_to_tensor, (transposed, *matrices))
        )
    finally:
        keras.config.set_image_data_format(before)
    channels_first = keras.ops.convert_to_numpy(channels_first)
    np.testing.assert_allclose(
        channels_first.transpose(0, 2, 3, 1),
        keras.ops.convert_to_numpy(channels_last),
        atol=1e-6,
    )


@pytest.mark.parametrize("size", [1, 2, 3])
def test_tiny_images_are_accepted(size):
    w = np.random.default_rng(1).normal(size=(size, size, 1)).astype("float32")
    x_adv = di2_fgsm(linear(w), IMAGES[:, :size, :size, :1], np.zeros(5, int), 0.1)
    assert np.isfinite(x_adv).all()


def test_pgd_with_momentum_and_diversity_stays_in_the_ball():
    w = np.random.default_rng(1).normal(size=IMAGES.shape[1:]).astype("float32")
    for options in ({"random_start": False}, {"norm": "l2", "restarts": 2}):
        x_adv = pgd(
            linear(w),
            IMAGES,
            np.zeros(5, int),
            0.1,
            steps=3,
            momentum=0.5,
            diversity=0.5,
            seed=0,
            **options,
        )
        order = 2 if "norm" in options else np.inf
        lengths = np.linalg.norm((x_adv - IMAGES).reshape(5, -1), order, axis=-1)
        assert (lengths <= 0.1 + 1e-6).all() and lengths.min() > 0.05
