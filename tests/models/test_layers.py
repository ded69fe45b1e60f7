"""What differs from Keras's defaults, against NumPy."""

import keras
import numpy as np
import pytest

from keras_dtkd import models
from keras_dtkd.models.builder import LayerBuilder

RNG = np.random.default_rng(0)
FORMATS = ("channels_last", "channels_first")


def run(data_format, build, x, weights=None):
    """What `build(made, inputs)` makes of channels-last images, channels last."""
    last = data_format == "channels_last"
    given = x if last else x.transpose(0, 3, 1, 2)
    inputs = keras.Input(given.shape[1:])
    model = keras.Model(inputs, build(LayerBuilder(data_format), inputs))
    if weights is not None:
        model.set_weights(weights)
    out = keras.ops.convert_to_numpy(model(given, training=False))
    return out if last else out.transpose(0, 2, 3, 1)


def padded(x):
    return np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))


def windows(x, stride):
    """3x3 windows of the padded images: `(batch, height, width, channels, 3, 3)`."""
    view = np.lib.stride_tricks.sliding_window_view(padded(x), (3, 3), axis=(1, 2))
    return view[:, ::stride, ::stride]


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [8, 7])
def test_3x3_convolutions_pad_each_side_by_one(data_format, stride, side):
    x, kernel = RNG.normal(size=(2, side, side, 3)), RNG.normal(size=(3, 3, 3, 4))
    found = run(
        data_format,
        lambda made, x: made.conv(x, 4, 3, stride, name="conv"),
        x.astype("float32"),
        [kernel],
    )
    expected = np.einsum("bhwcij,ijco->bhwo", windows(x, stride), kernel)
    assert found.shape == expected.shape and np.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_convolutions_do_too(data_format, stride):
    x, kernel = RNG.normal(size=(2, 8, 8, 5)), RNG.normal(size=(3, 3, 5, 1))
    found = run(
        data_format,
        lambda made, x: made.depthwise(x, stride, name="conv"),
        x.astype("float32"),
        [kernel],
    )
    expected = np.einsum("bhwcij,ijc->bhwc", windows(x, stride), kernel[..., 0])
    assert found.shape == expected.shape and np.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("data_format", FORMATS)
def test_1x1_convolutions_of_stride_2_take_the_even_places(data_format):
    x, kernel = RNG.normal(size=(2, 8, 8, 3)), RNG.normal(size=(1, 1, 3, 4))
    found = run(
        data_format,
        lambda made, x: made.conv(x, 4, 1, 2, name="conv"),
        x.astype("float32"),
        [kernel],
    )
    expected = x[:, ::2, ::2] @ kernel[0, 0]
    assert found.shape == expected.shape and np.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("data_format", FORMATS)
def test_a_shuffle_deals_the_channels_of_each_group_in_turn(data_format):
    x = RNG.normal(size=(2, 3, 4, 12)).astype("float32")
    found = run(data_format, lambda made, x: made.shuffle(x, 3, name="shuffle"), x)
    order = [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]
    assert np.array_equal(found, x[..., order])


def test_shufflev1s_shortcut_counts_the_zeros_of_the_border():
    model = models.get("shufflev1", data_format="channels_last")
    inputs = model.get_layer("stem").output
    shortcut = keras.Model(inputs, model.get_layer("layer1_0_shortcut").output)
    x = RNG.normal(size=(2, 32, 32, 24)).astype("float32")
    expected = windows(x, 2).sum((-1, -2)) / 9
    found = shortcut.predict(x, verbose=0)
    assert found.shape == expected.shape and np.allclose(found, expected, atol=1e-5)
    concat = model.get_layer("layer1_0_out_preact")
    # The branch comes first.
    assert [t.shape[-1] for t in concat.input] == [216, 24]
    assert concat.input[1] is model.get_layer("layer1_0_shortcut").output


def test_a_grouped_convolution_learns_by_the_gradient_of_each_group():
    """On a CPU too, where TensorFlow computes it by XLA alone."""
    x = RNG.normal(size=(2, 4, 4, 6)).astype("float32")
    kernel = RNG.normal(size=(1, 1, 2, 9)).astype("float32")
    inputs = keras.Input(x.shape[1:])
    made = LayerBuilder("channels_last")
    model = keras.Model(inputs, made.conv(inputs, 9, 1, groups=3, name="conv"))
    model.set_weights([kernel])
    groups = x.reshape(2, 4, 4, 3, 2), kernel.reshape(2, 3, 3)
    y = np.einsum("bhwgc,cgo->bhwgo", *groups)
    assert np.allclose(model.predict(x, verbose=0).reshape(y.shape), y, atol=1e-5)
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.fit(x, np.zeros((2, 4, 4, 9)), verbose=0)
    gradient = np.einsum("bhwgc,bhwgo->cgo", groups[0], 2 * y / y.size)
    expected = kernel - gradient.reshape(kernel.shape)
    assert np.allclose(model.get_weights()[0], expected, atol=1e-5)


def test_mobilenetv2_clips_nothing_at_six():
    model = models.get("mobilenetv2", data_format="channels_last")
    stem = keras.Model(model.input, model.get_layer("stem").output)
    x = 100 * RNG.normal(size=(2, 32, 32, 3))
    assert stem.predict(x.astype("float32"), verbose=0).max() > 6
    relus = [v for v in model.layers if isinstance(v, keras.layers.ReLU)]
    # Stem, two in each of 17 blocks, head.
    assert len(relus) == 36
    assert all(relu.max_value is None for relu in relus)


def test_the_first_shuffle_block_does_not_group_its_input():
    model = models.get("shufflev1")
    groups = [model.get_layer(f"layer1_{b}_conv1").groups for b in range(4)]
    assert groups == [1, 3, 3, 3]
    assert model.get_layer("layer1_0_conv3").groups == 3
