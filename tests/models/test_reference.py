"""With the same weights, the networks compute what the PyTorch references do."""

import keras
import numpy as np
import pytest

from keras_dtkd import models

torch = pytest.importorskip("torch")

from tests.models import reference  # noqa: E402
from tests.selection import RUNS_EVERYTHING  # noqa: E402

pytestmark = pytest.mark.usefixtures("zero_initializers")
X = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")
# One or more of each family; the others only have more or wider layers.
FAMILIES = ["resnet20", "resnet8x4", "resnet18", "resnet50", "wrn_16_1", "wrn_16_2"]
FAMILIES += ["vgg11", "mobilenetv2", "shufflev1", "shufflev2"]
if not RUNS_EVERYTHING:
    # Others are tested with channels first below.
    FAMILIES = ["resnet8x4", "mobilenetv2", "shufflev1"]


def reference_outputs(network, x=X):
    """Logits and intermediate outputs by name, channels last."""
    with torch.no_grad():
        logits, outputs = network(torch.from_numpy(x.transpose(0, 3, 1, 2)))
    outputs["logits"] = logits
    return {
        name: np.moveaxis(value.numpy(), 1, -1).copy()
        for name, value in outputs.items()
    }


def named_outputs(model, names, x=X):
    outputs = [model.get_layer(name).output for name in names]
    model = keras.Model(model.input, outputs)
    # TensorFlow is faster without compiling a network that runs once, JAX with.
    is_jax = keras.config.backend() == "jax"
    values = model.predict(x, verbose=0) if is_jax else model(x, training=False)
    return {
        n: keras.ops.convert_to_numpy(v) for n, v in zip(names, values, strict=True)
    }


def assert_equal(outputs, expected, tolerance=2e-5):
    for name, value in expected.items():
        assert outputs[name].shape == value.shape, name
        error = np.abs(outputs[name] - value).max()
        assert error <= tolerance * np.abs(value).max(), (name, error)


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_and_all_named_outputs_equal_the_reference(name):
    network = reference.build(name)
    model = models.get(name, input_shape=X.shape[1:])
    models.load_torch(model, network.state_dict())
    expected = reference_outputs(network)
    # The outputs have not vanished, and they differ between the two images.
    assert np.abs(expected["logits"][0] - expected["logits"][1]).max() > 1e-3
    assert_equal(named_outputs(model, list(expected)), expected)


@pytest.mark.parametrize("name", ["vgg8", "resnet8x4"])
def test_64_pixel_images_equal_the_reference(name):
    x = np.random.default_rng(1).normal(size=(1, 64, 64, 3)).astype("float32")
    network = reference.build(name)
    model = models.get(name, input_shape=(64, 64, 3))
    models.load_torch(model, network.state_dict())
    expected = reference_outputs(network, x)
    assert_equal(named_outputs(model, list(expected), x), expected)


@pytest.mark.parametrize(
    "name",
    ["resnet8x4", "wrn_16_2", "vgg8", "mobilenetv2", "shufflev1", "shufflev2"],
)
def test_channels_first_equals_the_reference(name):
    network = reference.build(name)
    model = models.get(
        name, input_shape=(3, *X.shape[1:3]), data_format="channels_first"
    )
    models.load_torch(model, network.state_dict())
    expected = reference_outputs(network)
    outputs = named_outputs(model, list(expected), X.transpose(0, 3, 1, 2))
    assert_equal({k: np.moveaxis(v, 1, -1) for k, v in outputs.items()}, expected)
