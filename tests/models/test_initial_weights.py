"""New networks are initialized like the PyTorch networks."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_dtkd import models

UNIFORM = ("shufflev1", "shufflev2")
SMALL_NORMAL = ("vgg8", "mobilenetv2")


@pytest.fixture(scope="module")
def network():
    networks = {}

    def get(name):
        if name not in networks:
            keras.utils.set_random_seed(1)
            networks[name] = models.get(name, data_format="channels_last")
        return networks[name]

    return get


def kernels(model):
    """Kernel, fan-in and fan-out of each convolution, as PyTorch defines them."""
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D):
            kernel = np.array(layer.get_weights()[0])
            height, width, inner, outer = kernel.shape
            if isinstance(layer, layers.DepthwiseConv2D):
                inner, outer = 1, inner
            yield kernel, height * width * inner, height * width * outer


@pytest.mark.parametrize(
    "name", ["resnet8x4", "wrn_16_2", "vgg8", "mobilenetv2", "resnet18"]
)
def test_convolutions_are_normal_by_fan_out_and_not_truncated(network, name):
    scaled = [k.ravel() / (2 / out) ** 0.5 for k, _, out in kernels(network(name))]
    for values in scaled:
        # Five standard errors of a standard deviation.
        assert abs(values.std() - 1) < 5 / (2 * len(values)) ** 0.5
    values = np.concatenate(scaled)
    assert abs(values.mean()) < 5 / len(values) ** 0.5
    assert abs((np.abs(values) > 2.5).mean() - 0.01242) < 0.002


@pytest.mark.parametrize("name", UNIFORM)
def test_convolutions_of_shufflenets_are_uniform_by_fan_in(network, name):
    for kernel, fan_in, _ in kernels(network(name)):
        values = kernel.ravel() * fan_in**0.5
        assert np.abs(values).max() <= 1.0001
        assert np.abs(values).max() > 1 - 10 / len(values)
        assert abs(values.std() - 3**-0.5) < 5 / (4 * len(values)) ** 0.5


@pytest.mark.parametrize("name", ["resnet8x4", "wrn_16_2", "resnet18", *UNIFORM])
def test_classifiers_are_uniform_by_fan_in(network, name):
    kernel, bias = network(name).get_layer("logits").get_weights()
    bound = kernel.shape[0] ** -0.5
    assert 0.99 * bound < np.abs(kernel).max() <= 1.0001 * bound
    assert abs(kernel.std() - bound / 3**0.5) < 0.02 * bound
    if name == "wrn_16_2":
        assert (bias == 0).all()
    else:
        assert 0.8 * bound < np.abs(bias).max() <= 1.0001 * bound


@pytest.mark.parametrize("name", SMALL_NORMAL)
def test_classifiers_are_small_normals(network, name):
    kernel, bias = network(name).get_layer("logits").get_weights()
    assert abs(kernel.std() - 0.01) < 0.0002
    assert 0.035 < np.abs(kernel).max()
    assert (bias == 0).all()


@pytest.mark.parametrize("name", ["resnet8x4", "vgg8", "mobilenetv2", "shufflev2"])
def test_batch_norms_and_convolution_biases_have_neutral_initial_values(network, name):
    for layer in network(name).layers:
        if isinstance(layer, layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            assert (gamma == 1).all() and (variance == 1).all()
            assert (beta == 0).all() and (mean == 0).all()
        elif isinstance(layer, layers.Conv2D) and layer.use_bias:
            assert (layer.get_weights()[1] == 0).all()


def test_no_two_kernels_have_equal_initial_values(network):
    for name in ("resnet8x4", "shufflev1", "mobilenetv2"):
        starts = [kernel.ravel()[:4].tobytes() for kernel, *_ in kernels(network(name))]
        assert len(set(starts)) == len(starts)


def test_a_seed_reproduces_the_initial_values():
    weights = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        weights.append(models.get("resnet8").get_weights())
    assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))
