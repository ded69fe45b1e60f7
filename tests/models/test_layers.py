"""Layers whose conventions differ from Keras's defaults, against NumPy."""

import keras
import numpy as np
import pytest

from keras_dtkd import backend, models
from keras_dtkd.models.builder import LayerBuilder
from tests.scripts import start_script

RNG = np.random.default_rng(0)
FORMATS = ("channels_last", "channels_first")


def run(data_format, build, x, weights=None):
    """Output of `build(builder, inputs)` for channels-last images, channels last."""
    channels_last = data_format == "channels_last"
    images = x if channels_last else x.transpose(0, 3, 1, 2)
    inputs = keras.Input(images.shape[1:])
    model = keras.Model(inputs, build(LayerBuilder(data_format), inputs))
    if weights is not None:
        model.set_weights(weights)
    out = keras.ops.convert_to_numpy(model(images, training=False))
    return out if channels_last else out.transpose(0, 2, 3, 1)


def windows(x, stride):
    """3x3 windows of the padded images: `(batch, height, width, channels, 3, 3)`."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    view = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return view[:, ::stride, ::stride]


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [8, 7])
def test_3x3_convolutions_pad_each_side_by_one(data_format, stride, side):
    x, kernel = RNG.normal(size=(2, side, side, 3)), RNG.normal(size=(3, 3, 3, 4))
    output = run(
        data_format,
        lambda builder, x: builder.conv(x, 4, 3, stride, name="conv"),
        x.astype("float32"),
        [kernel],
    )
    expected = np.einsum("bhwcij,ijco->bhwo", windows(x, stride), kernel)
    assert output.shape == expected.shape and np.allclose(output, expected, atol=1e-4)


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_convolutions_pad_each_side_by_one(data_format, stride):
    x, kernel = RNG.normal(size=(2, 8, 8, 5)), RNG.normal(size=(3, 3, 5, 1))
    output = run(
        data_format,
        lambda builder, x: builder.conv(x, None, 3, stride, name="conv"),
        x.astype("float32"),
        [kernel],
    )
    expected = np.einsum("bhwcij,ijc->bhwc", windows(x, stride), kernel[..., 0])
    assert output.shape == expected.shape and np.allclose(output, expected, atol=1e-4)


@pytest.mark.parametrize("data_format", FORMATS)
def test_1x1_convolutions_of_stride_2_take_the_even_positions(data_format):
    x, kernel = RNG.normal(size=(2, 8, 8, 3)), RNG.normal(size=(1, 1, 3, 4))
    output = run(
        data_format,
        lambda builder, x: builder.conv(x, 4, 1, 2, name="conv"),
        x.astype("float32"),
        [kernel],
    )
    expected = x[:, ::2, ::2] @ kernel[0, 0]
    assert output.shape == expected.shape and np.allclose(output, expected, atol=1e-5)


@pytest.mark.parametrize("data_format", FORMATS)
def test_channel_shuffle_interleaves_the_groups(data_format):
    x = RNG.normal(size=(2, 3, 4, 12)).astype("float32")
    output = run(
        data_format, lambda builder, x: builder.channel_shuffle(x, 3, name="shuffle"), x
    )
    order = [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]
    assert np.array_equal(output, x[..., order])


@pytest.mark.usefixtures("zero_initializers")
def test_the_shortcut_of_shufflev1_averages_the_padding_too():
    model = models.get("shufflev1", data_format="channels_last")
    inputs = model.get_layer("stem").output
    shortcut = keras.Model(inputs, model.get_layer("layer1_0_shortcut").output)
    x = RNG.normal(size=(2, 32, 32, 24)).astype("float32")
    expected = windows(x, 2).sum((-1, -2)) / 9
    output = shortcut.predict(x, verbose=0)
    assert output.shape == expected.shape and np.allclose(output, expected, atol=1e-5)
    concat = model.get_layer("layer1_0_out_preact")
    # The residual branch comes first.
    assert [t.shape[-1] for t in concat.input] == [216, 24]
    assert concat.input[1] is model.get_layer("layer1_0_shortcut").output


def test_a_grouped_convolution_trains_with_the_gradient_of_each_group():
    """On a CPU, TensorFlow computes this gradient by XLA only."""
    x = RNG.normal(size=(2, 4, 4, 6)).astype("float32")
    kernel = RNG.normal(size=(1, 1, 2, 9)).astype("float32")
    inputs = keras.Input(x.shape[1:])
    builder = LayerBuilder("channels_last")
    model = keras.Model(inputs, builder.conv(inputs, 9, 1, groups=3, name="conv"))
    model.set_weights([kernel])
    groups = x.reshape(2, 4, 4, 3, 2), kernel.reshape(2, 3, 3)
    y = np.einsum("bhwgc,cgo->bhwgo", *groups)
    assert np.allclose(model.predict(x, verbose=0).reshape(y.shape), y, atol=1e-5)
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.fit(x, np.zeros((2, 4, 4, 9)), verbose=0)
    gradient = np.einsum("bhwgc,bhwgo->cgo", groups[0], 2 * y / y.size)
    expected = kernel - gradient.reshape(kernel.shape)
    assert np.allclose(model.get_weights()[0], expected, atol=1e-5)


@pytest.mark.parametrize("data_format", FORMATS)
def test_batch_norm_trains_with_the_constants_of_pytorch(data_format):
    """Except that Keras updates the moving variance with the biased variance."""
    x = RNG.normal(2.0, 3.0, size=(4, 5, 6, 3)).astype("float32")
    images = x if data_format == "channels_last" else x.transpose(0, 3, 1, 2)
    inputs = keras.Input(images.shape[1:])
    outputs = LayerBuilder(data_format).batch_norm(inputs, name="norm")
    model = keras.Model(inputs, outputs)
    output = keras.ops.convert_to_numpy(model(images, training=True))
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    if data_format == "channels_first":
        output = output.transpose(0, 2, 3, 1)
    expected = (x - mean) / np.sqrt(variance + 1e-5)
    assert np.allclose(output, expected, atol=1e-5)
    _, _, moving_mean, moving_variance = model.get_weights()
    assert np.allclose(moving_mean, 0.1 * mean, atol=1e-6)
    assert np.allclose(moving_variance, 0.9 + 0.1 * variance, rtol=1e-4)


def test_channels_first_raises_if_tensorflow_cannot_run_it():
    if keras.config.backend() != "tensorflow":
        assert backend.runs_channels_first()
        return
    code = (
        "import tensorflow as tf; tf.config.set_visible_devices([], 'GPU')\n"
        "from keras_dtkd import models\n"
        "models.get('resnet8', data_format='channels_first')"
    )
    process = start_script("-c", code, TF_ENABLE_ONEDNN_OPTS="0")
    message = process.stderr.strip().splitlines()[-1]
    assert message.startswith("ValueError: `models.get`: this TensorFlow has no")
    assert "TF_ENABLE_ONEDNN_OPTS=1" in message
