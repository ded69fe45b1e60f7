"""Attention multiplied into the kernels of plain convolutions."""

import json

import keras
import numpy as np
import pytest

from keras_dtkd.core.layer_tree import find_layer
from keras_dtkd.layers import VirtualAttentionConv2D, fold, virtual_attention
from tests.layers.attentive import (
    SHAPE,
    X,
    Y,
    convolutions,
    make_unequal,
    network,
    scale_kernel,
)
from tests.layers.networks import MODELS, Block, randomize
from tests.tensors import numpy
from tests.tiny_models import everything, same

OPTIONS = {
    "plain": {},
    "strides": {"strides": 2},
    "padding": {"padding": "same"},
    "dilation": {"dilation_rate": 2},
    "groups": {"groups": 3, "filters": 6},
    "no bias": {"use_bias": False},
    "activation": {"activation": "tanh"},
    "channels first": {"data_format": "channels_first"},
    "mixed_float16": {"dtype": "mixed_float16"},
    "mixed_bfloat16": {"dtype": "mixed_bfloat16"},
    "bfloat16": {"dtype": "bfloat16"},
    "float64": {"dtype": "float64"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_folded_layer_has_its_outputs(name):
    options = {"filters": 7, "kernel_size": 3, **OPTIONS[name]}
    conv = VirtualAttentionConv2D(blocks=2, name="conv", **options)
    axis = 1 if name == "channels first" else -1
    norm = keras.layers.BatchNormalization(axis=axis, dtype=options.get("dtype"))
    x = np.moveaxis(X, -1, 1) if name == "channels first" else X
    model = keras.Sequential([keras.Input(x.shape[1:]), conv, norm])
    make_unequal(model)
    folded = fold(model)
    plain = folded.get_layer("conv")
    assert type(plain) is keras.layers.Conv2D
    assert plain.dtype_policy == conv.dtype_policy
    assert plain.kernel.dtype == conv.kernel.dtype
    np.testing.assert_allclose(numpy(folded(x)), numpy(model(x)), atol=1e-6, rtol=1e-6)
    if plain.kernel.dtype != "bfloat16":
        groups = options.get("groups", 1)
        theta = numpy(conv.theta), 0.7, 2, groups
        expected = scale_kernel(numpy(conv.kernel), *theta)
        np.testing.assert_allclose(numpy(plain.kernel), expected, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_a_folded_model_has_its_outputs_and_keras_layers_alone(name):
    plain = randomize(MODELS[name]())
    model = make_unequal(virtual_attention(plain, blocks=2, entropy=0.1))
    before, outputs = everything(model), numpy(model(X))
    assert np.abs(outputs - numpy(plain(X))).max() > 1e-3
    folded = fold(model)
    np.testing.assert_allclose(numpy(folded(X)), outputs, atol=1e-6, rtol=1e-6)
    assert everything(model) == before
    assert folded.count_params() == plain.count_params()
    assert not folded.losses and not convolutions(folded)
    assert "keras_dtkd" not in folded.to_json()
    # Of the class and layers that the model had at first.
    assert json.loads(folded.to_json())["class_name"] == type(model).__name__


@pytest.mark.single_backend
def test_a_folded_model_is_saved_loaded_and_trained(tmp_path):
    model = make_unequal(virtual_attention(network()))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(X, Y, epochs=1, verbose=0)
    folded = fold(model)
    folded.save(tmp_path / "folded.keras")
    loaded = keras.models.load_model(tmp_path / "folded.keras")
    np.testing.assert_array_equal(numpy(loaded(X)), numpy(model(X)))
    loaded.fit(X, Y, verbose=0)
    assert not same(folded, loaded)


@pytest.mark.single_backend
def test_regularizers_and_constraints_are_kept():
    options = {
        "kernel_regularizer": keras.regularizers.L2(0.1),
        "kernel_constraint": keras.constraints.MaxNorm(2.0),
        "bias_regularizer": keras.regularizers.L1(0.2),
    }
    plain = network(**options)
    folded = fold(virtual_attention(plain, entropy=0.5))
    for name in ("conv1", "conv2"):
        config = find_layer(folded, name).get_config()
        assert config == find_layer(plain, name).get_config()
    assert sum(map(numpy, folded.losses)) == pytest.approx(
        sum(map(numpy, plain.losses)), rel=1e-6
    )


@pytest.mark.single_backend
def test_kerashubs_resnet():
    hub = pytest.importorskip("keras_hub", reason="KerasHub is not installed.")
    keras.utils.set_random_seed(0)
    backbone = hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64],
        stackwise_num_blocks=[1],
        stackwise_num_strides=[1],
        block_type="bottleneck_block",
        image_shape=SHAPE,
    )
    classifier = hub.models.ImageClassifier(backbone, num_classes=4)
    model = make_unequal(virtual_attention(classifier))
    assert np.abs(numpy(model(X)) - numpy(classifier(X))).max() > 1e-3
    folded = fold(model)
    np.testing.assert_allclose(numpy(folded(X)), numpy(model(X)), atol=1e-6)
    # It fits into a classifier of KerasHub's own.
    small = folded.get_layer(backbone.name)
    for layer, source in zip(backbone.layers[1:], small.layers[1:], strict=True):
        layer.set_weights(source.get_weights())
    head = folded.get_layer("predictions").get_weights()
    classifier.get_layer("predictions").set_weights(head)
    np.testing.assert_allclose(numpy(classifier(X)), numpy(model(X)), atol=1e-6)


class Attentive(Block):
    """A layer that is no functional model and has attention."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = VirtualAttentionConv2D(4, 3, name="inner_conv")


def hide():
    inputs = keras.Input(SHAPE)
    return keras.Model(inputs, Attentive(name="block")(inputs))


def adapt():
    model = virtual_attention(network())
    model.get_layer("conv2").enable_lora(2)
    return model


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
@pytest.mark.parametrize(
    ("model", "error", "match"),
    [
        (lambda: None, TypeError, "`model` must be a `keras.Model`.*NoneType"),
        (network, ValueError, "'network' has no `VirtualAttentionConv2D`"),
        (hide, ValueError, "'inner_conv' cannot be folded.*within 'block'.*Attentive"),
        (adapt, ValueError, "'conv2' has LoRA"),
    ],
)
def test_what_cannot_be_folded_is_one_error(model, error, match):
    with pytest.raises(error, match=f"`fold`: {match}"):
        fold(model())
