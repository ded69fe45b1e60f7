"""Convolutions with attention between blocks of their filters."""

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.layers import VirtualAttentionConv2D
from keras_dtkd.losses import KD
from tests.layers.attentive import (
    SHAPE,
    X,
    Y,
    convolutions,
    entropy,
    make_unequal,
    network,
    scale_kernel,
    softmax,
)
from tests.tensors import numpy
from tests.tiny_models import Counting, same

# Input channels, filters, blocks, groups.
CASES = [(8, 12, 4, 1), (3, 5, 4, 1), (7, 10, 3, 1), (1, 4, 2, 1), (4, 6, 1, 1)]
CASES += [(8, 12, 2, 2), (6, 9, 4, 3), (4, 4, 3, 4)]


def build(channels, filters, blocks, groups, **options):
    options = {"blocks": blocks, "groups": groups, **options}
    layer = VirtualAttentionConv2D(filters, 3, **options)
    layer.build((None, 5, 5, channels))
    return layer


def images(channels):
    return np.random.default_rng(3).normal(size=(2, 5, 5, channels)).astype("float32")


@pytest.mark.parametrize("case", CASES)
def test_kernel_attention_and_entropy_equal_the_formulas(case):
    layer = make_unequal(build(*case))
    theta, temperature = numpy(layer.theta), 0.7
    channels, filters, blocks, groups = case
    rows = groups * min(blocks, filters // groups)
    assert theta.shape == (rows, min(blocks, channels // groups))
    expected = scale_kernel(numpy(layer.kernel), theta, temperature, *case[2:])
    np.testing.assert_allclose(numpy(layer.compute_kernel()), expected, atol=1e-6)
    np.testing.assert_allclose(
        numpy(layer.attention()), softmax(theta, temperature), atol=1e-6
    )
    assert numpy(layer.entropy()) == pytest.approx(
        entropy(theta, temperature), abs=1e-6
    )


@pytest.mark.parametrize("case", CASES)
def test_the_output_is_the_convolution_with_the_scaled_kernel(case):
    layer = make_unequal(build(*case, use_bias=False))
    kernel = scale_kernel(numpy(layer.kernel), numpy(layer.theta), 0.7, *case[2:])
    np.testing.assert_allclose(
        numpy(layer(images(case[0]))),
        convolve(images(case[0]), kernel, case[3]),
        atol=1e-5,
    )


def convolve(x, kernel, groups=1):
    size = kernel.shape[0]
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))
    parts = np.split(windows, groups, 3), np.split(kernel, groups, 3)
    parts = zip(*parts, strict=True)
    return np.concatenate(
        [np.einsum("nhwcij,ijcf->nhwf", x, k) for x, k in parts], axis=-1
    )


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_equal_attention_is_the_plain_convolution_in_every_bit(dtype):
    for channels, blocks, groups in [(50, 41, 1), (3, 4, 1), (12, 3, 2), (1, 1, 1)]:
        options = {"groups": groups, "dtype": dtype, "activation": "relu"}
        layer = VirtualAttentionConv2D(50, 3, blocks=blocks, **options)
        plain = keras.layers.Conv2D(50, 3, **options)
        layer.build((None, 5, 5, channels))
        plain.build((None, 5, 5, channels))
        plain.kernel.assign(keras.ops.convert_to_numpy(layer.kernel))
        x = images(channels)
        np.testing.assert_array_equal(numpy(layer(x)), numpy(plain(x)))


def step(layer, x, y):
    """The gradients of `mean((layer(x) - y) ** 2)` and of the layer's penalty."""
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    before = numpy(layer.theta), numpy(layer.kernel)
    loss = model.train_on_batch(x, y)
    after = numpy(layer.theta), numpy(layer.kernel)
    return float(loss), *(b - a for b, a in zip(before, after, strict=True))


@pytest.mark.parametrize("case", [(5, 6, 3, 1), (4, 6, 2, 2)])
def test_gradients_equal_central_differences(case):
    weight, blocks, groups = 0.5, *case[2:]
    layer = build(*case, use_bias=False, entropy_weight=weight)
    make_unequal(layer)
    x = images(case[0])
    y = np.random.default_rng(4).normal(size=layer(x).shape).astype("float32")
    theta, kernel = numpy(layer.theta), numpy(layer.kernel)

    def total(theta):
        outputs = convolve(x, scale_kernel(kernel, theta, 0.7, blocks, groups), groups)
        return ((outputs - y) ** 2).mean() + weight * entropy(theta, 0.7)

    expected = np.zeros_like(theta)
    for index in np.ndindex(theta.shape):
        shift = np.zeros_like(theta)
        shift[index] = 1e-5
        expected[index] = (total(theta + shift) - total(theta - shift)) / 2e-5
    loss, gradient, _ = step(layer, x, y)
    assert loss == pytest.approx(total(theta), rel=1e-5)
    np.testing.assert_allclose(gradient, expected, atol=2e-5)


@pytest.mark.parametrize("temperature", [1e-3, 1e-39, 0.0])
def test_gradients_are_finite_for_hard_attention(temperature):
    layer = build(8, 8, 4, 1, entropy_weight=0.1)
    theta = np.random.default_rng(5).choice([-1e4, 0.0, 1e4], layer.theta.shape)
    layer.theta.assign(theta)
    layer.attention_temperature.assign(temperature)
    x = images(8)
    assert np.isfinite(numpy(layer.entropy()))
    assert all(np.isfinite(v).all() for v in step(layer, x, numpy(layer(x)) + 1))


def test_attention_is_float32_in_half_precision():
    layer = build(8, 8, 4, 1, dtype="mixed_float16", entropy_weight=0.1)
    outputs = layer(images(8))
    assert keras.backend.standardize_dtype(outputs.dtype) == "float16"
    for value in (layer.theta, layer.attention(), layer.entropy(), layer.losses[0]):
        assert keras.backend.standardize_dtype(value.dtype) == "float32"


def test_a_layer_that_is_called_twice_is_penalized_once():
    conv = VirtualAttentionConv2D(3, 3, blocks=3, padding="same", entropy_weight=0.5)
    x = keras.Input(SHAPE)
    model = keras.Model(x, conv(conv(x)))
    make_unequal(model)
    model(X)
    (penalty,) = model.losses
    assert numpy(penalty) == pytest.approx(0.5 * entropy(numpy(conv.theta), 0.7))


def test_what_is_saved_is_loaded_in_every_bit(tmp_path):
    options = {"blocks": 2, "entropy_weight": 0.5, "attention_temperature": 2.0}
    model = network(VirtualAttentionConv2D, attention_initializer="ones", **options)
    make_unequal(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert same(model, loaded)
    np.testing.assert_array_equal(numpy(model(X)), numpy(loaded(X)))
    for one, two in zip(convolutions(model), convolutions(loaded), strict=True):
        assert one.get_config() == two.get_config()
        assert numpy(two.attention_temperature) == pytest.approx(0.7)


class Temperatures(keras.callbacks.Callback):
    """Sets the temperature of every attention to 2, 1, 1/2 and so on."""

    def on_epoch_begin(self, epoch, logs=None):
        for layer in convolutions(self.model):
            layer.attention_temperature.assign(2.0 * 0.5**epoch)


def distill(student, losses, rate, **options):
    d = Distiller(network(seed=9), student, losses)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    d.compile(keras.optimizers.SGD(rate), loss)
    return d.fit(X, Y, batch_size=8, verbose=0, **options).history


def find_thetas(model):
    return [numpy(layer.theta) for layer in convolutions(model)]


@pytest.mark.graph
@pytest.mark.invariant(number=7)
def test_a_temperature_changed_during_fit_takes_effect_without_compiling_again():
    student = network(VirtualAttentionConv2D, blocks=3, entropy_weight=0.5)
    student = keras.Sequential([*student.layers, Counting()])
    student.build((None, *SHAPE))
    make_unequal(student)
    thetas, counts = find_thetas(student), []
    count = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_: counts.append(student.layers[-1].counts["calls"])
    )
    logs = distill(student, KD(), 0.0, epochs=3, callbacks=[Temperatures(), count])
    for epoch, temperature in enumerate([2.0, 1.0, 0.5]):
        penalty = sum(0.5 * entropy(theta, temperature) for theta in thetas)
        parts = logs["task_loss"][epoch] + logs["kd"][epoch]
        assert logs["loss"][epoch] - parts == pytest.approx(penalty, rel=1e-4)
    # The outputs follow too.
    assert logs["kd"][0] != pytest.approx(logs["kd"][2], rel=1e-3)
    if keras.backend.backend() != "torch":
        # Python ran for the traces of the first epoch alone.
        assert counts[0] == counts[2]


def test_a_distiller_trains_it_and_the_penalty_lowers_the_entropy():
    ends = []
    for weight in (0.0, 10.0):
        student = network(VirtualAttentionConv2D, entropy_weight=weight)
        make_unequal(student)
        before = find_thetas(student)
        distill(student, KD(), 0.1, epochs=4)
        after = find_thetas(student)
        for one, two in zip(before, after, strict=True):
            assert np.abs(one - two).max() > 1e-4
        ends.append(np.mean([entropy(theta, 0.7) for theta in after]))
    assert ends[1] < ends[0] - 0.02


@pytest.mark.single_backend
def test_theta_can_be_left_out_of_weight_decay():
    model = network(VirtualAttentionConv2D)
    make_unequal(model)
    optimizer = keras.optimizers.SGD(1.0, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["theta"])
    model.compile(optimizer, "mse")
    before, kernel = find_thetas(model), numpy(convolutions(model)[0].kernel)
    # Without inputs, kernels and attention have no gradient.
    model.train_on_batch(0 * X, np.zeros((8, 4)))
    for one, two in zip(before[:1], find_thetas(model)[:1], strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_allclose(numpy(convolutions(model)[0].kernel), 0.9 * kernel)


@pytest.mark.single_backend
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"blocks": 0}, "`blocks` must be an integer of at least 1"),
        ({"blocks": 2.5}, "`blocks`"),
        ({"attention_temperature": 0.0}, "`attention_temperature`.*above 0"),
        ({"attention_temperature": float("nan")}, "`attention_temperature`"),
        ({"entropy_weight": -0.1}, "`entropy_weight`.*at least 0"),
    ],
)
@pytest.mark.invariant(number=10)
def test_numbers_out_of_range_are_refused(options, match):
    with pytest.raises(ValueError, match=f"`VirtualAttentionConv2D`: {match}"):
        VirtualAttentionConv2D(4, 3, **options)


@pytest.mark.single_backend
def test_adapters_are_scaled_with_the_kernel():
    layer = make_unequal(build(8, 8, 4, 1))
    kernel = numpy(layer.kernel)
    layer.enable_lora(2)
    layer.lora_kernel_b.assign(np.ones(layer.lora_kernel_b.shape))
    kernel = kernel + numpy(layer.lora_kernel_a) @ np.ones(layer.lora_kernel_b.shape)
    expected = scale_kernel(kernel, numpy(layer.theta), 0.7, 4)
    np.testing.assert_allclose(numpy(layer.compute_kernel()), expected, atol=1e-5)
