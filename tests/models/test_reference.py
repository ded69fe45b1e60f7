"""With the same weights, the networks compute what the PyTorch ones do."""

import keras
import numpy as np
import pytest

from keras_dtkd import models

torch = pytest.importorskip("torch")

from tests.models import reference  # noqa: E402

X = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
# Of each kind; the others are deeper or wider.
KINDS = ["resnet20", "resnet8x4", "resnet18", "resnet50", "wrn_16_1", "wrn_16_2"]
KINDS += ["vgg11", "mobilenetv2", "shufflev1", "shufflev2"]


def expected(network, x=X):
    """Logits and inner outputs, channels last."""
    with torch.no_grad():
        logits, seen = network(torch.from_numpy(x.transpose(0, 3, 1, 2)))
    seen["logits"] = logits
    return {
        name: np.moveaxis(value.numpy(), 1, -1).copy() for name, value in seen.items()
    }


def found(model, names, x=X):
    outputs = [model.get_layer(name).output for name in names]
    values = keras.Model(model.input, outputs).predict(x, verbose=0)
    return dict(zip(names, values, strict=True))


def assert_equal(found, expected, tolerance=2e-5):
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        error = np.abs(found[name] - value).max()
        assert error <= tolerance * np.abs(value).max(), (name, error)


@pytest.mark.parametrize("name", KINDS)
def test_logits_and_all_named_outputs_are_the_references(name):
    network = reference.made(name)
    model = models.load_torch(models.get(name), network.state_dict())
    want = expected(network)
    # Nothing died on the way, and the two images are told apart.
    assert np.abs(want["logits"][0] - want["logits"][1]).max() > 1e-3
    assert_equal(found(model, list(want)), want)


@pytest.mark.parametrize("name", sorted(set(models.MODEL_NAMES) - set(KINDS)))
def test_every_other_network_takes_the_references_weights_too(name):
    state = reference.made(name).state_dict()
    model = models.load_torch(models.get(name), state)
    counters = sum(key.endswith("num_batches_tracked") for key in state)
    assert len(model.weights) == len(state) - counters
    # Each went to the place of its name, not to another of its shape.
    norms = [key for key in state if key.endswith("running_var")]
    for key in norms:
        layer = model.get_layer(key.removesuffix(".running_var").replace(".", "_"))
        assert np.array_equal(layer.get_weights()[3], state[key].numpy())


@pytest.mark.parametrize("name", ["vgg8", "resnet8x4"])
def test_images_of_64_pixels_too(name):
    x = np.random.default_rng(1).normal(size=(2, 64, 64, 3)).astype("float32")
    network = reference.made(name)
    model = models.get(name, input_shape=(64, 64, 3))
    models.load_torch(model, network.state_dict())
    want = expected(network, x)
    assert_equal(found(model, list(want), x), want)


def test_in_training_the_statistics_move_alike():
    """By a tenth of the batch's mean; of its variance with n for PyTorch's n - 1."""
    network = reference.made("resnet8x4")
    model = models.load_torch(models.get("resnet8x4"), network.state_dict())
    norm, theirs = model.get_layer("layer3_0_bn2"), network.layer3[0].bn2
    before = np.array(norm.get_weights()[3])
    network.train()
    logits = keras.ops.convert_to_numpy(model(X, training=True))
    want = expected(network)["logits"]
    assert np.abs(logits - want).max() <= 1e-4 * np.abs(want).max()
    mean, variance = norm.get_weights()[2:]
    assert np.allclose(mean, theirs.running_mean.numpy(), atol=1e-5)
    n = 8 * 8 * len(X)
    moved = (variance - 0.9 * before) * n / (n - 1)
    assert np.allclose(moved, theirs.running_var.numpy() - 0.9 * before, rtol=1e-3)


@pytest.mark.parametrize(
    "name",
    ["resnet8x4", "wrn_16_2", "vgg8", "mobilenetv2", "shufflev1", "shufflev2"],
)
def test_channels_first_is_the_same_network(name):
    network = reference.made(name)
    model = models.get(name, data_format="channels_first")
    models.load_torch(model, network.state_dict())
    want = expected(network)
    values = found(model, list(want), X.transpose(0, 3, 1, 2))
    assert_equal({k: np.moveaxis(v, 1, -1) for k, v in values.items()}, want)
