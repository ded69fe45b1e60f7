"""Copies of models with attention between blocks of their filters."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import Distiller
from keras_dtkd.core.layer_tree import find_layer
from keras_dtkd.layers import VirtualAttentionConv2D, fold, virtual_attention
from keras_dtkd.losses import FeatureMSE
from tests.layers.attentive import SHAPE, X, Y, convolutions, network
from tests.layers.networks import MODELS, Block, OwnCall, OwnTraining, randomize
from tests.tensors import numpy
from tests.tiny_models import everything, layers_of, numbers


def names(model):
    found = (e for e in layers_of(model) if not isinstance(e, keras.layers.InputLayer))
    return [layer.name for layer in found]


@pytest.mark.parametrize("name", MODELS)
def test_the_copy_has_the_models_outputs_and_nothing_else_of_it(name):
    model = randomize(MODELS[name]())
    before, outputs = everything(model), numpy(model(X))
    assert np.isfinite(outputs).all()
    copy = virtual_attention(model, blocks=3, temperature=2.0)
    np.testing.assert_array_equal(numpy(copy(X)), outputs)
    assert names(copy) == names(model)
    count = sum(type(e) is keras.layers.Conv2D for e in {*layers_of(model)})
    assert len(convolutions(copy)) == count
    assert not any(type(e) is keras.layers.Conv2D for e in layers_of(copy))
    copy.set_weights([0 * weight for weight in copy.get_weights()])
    assert everything(model) == before


def test_a_copy_trains_in_a_distiller_with_features_by_name():
    teacher, student = network(), virtual_attention(network(seed=1), entropy=0.1)
    before = numbers(student)
    d = Distiller(teacher, student, FeatureMSE([("relu", "relu"), ("conv2", "conv2")]))
    d.fit(X, Y, epochs=2, verbose=0)
    moved = [np.abs(a - b).max() for a, b in zip(before, numbers(student), strict=True)]
    frozen = ["attention_temperature" in v.path for v in student.weights]
    assert [change > 0 for change in moved] == [not each for each in frozen]


@pytest.mark.single_backend
def test_the_options_are_those_of_every_layer():
    options = {"blocks": 2, "temperature": 3.0, "entropy": 0.5}
    for layer in convolutions(virtual_attention(network(), **options)):
        assert numpy(layer.attention_temperature) == 3.0
        assert layer.theta.shape == (2, 2) and layer.entropy_weight == 0.5


@pytest.mark.single_backend
def test_layers_chooses_by_name_or_path():
    copy = virtual_attention(MODELS["nested"](), layers=["inner/conv", "conv2"])
    assert [e.name for e in convolutions(copy)] == ["conv", "conv2"]
    assert type(find_layer(copy, "conv1")) is keras.layers.Conv2D


@pytest.mark.single_backend
def test_other_convolutions_and_attention_that_is_there_are_left_alone():
    class Own(keras.layers.Conv2D):
        """A convolution that may compute something else."""

    layers = keras.layers
    inputs = keras.Input(SHAPE)
    x = layers.DepthwiseConv2D(3, name="depthwise")(inputs)
    x = layers.Conv2DTranspose(4, 3, name="transposed")(x)
    x = layers.SeparableConv2D(4, 3, name="separable")(x)
    x = Own(4, 1, name="own")(x)
    x = VirtualAttentionConv2D(4, 1, blocks=2, name="attentive")(x)
    model = keras.Model(inputs, layers.Conv2D(4, 1, name="plain")(x))
    model.get_layer("attentive").theta.assign([[1.0, 0.0], [2.0, -1.0]])
    copy = virtual_attention(model)
    for layer in model.layers[1:-1]:
        assert type(copy.get_layer(layer.name)) is type(layer)
    assert [e.name for e in convolutions(copy)] == ["attentive", "plain"]
    np.testing.assert_array_equal(numpy(copy(X)), numpy(model(X)))


@pytest.mark.single_backend
def test_frozen_layers_and_the_compiled_loss_are_kept():
    model = network()
    model.get_layer("conv1").trainable = False
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    copy = virtual_attention(model)
    assert not copy.get_layer("conv1").trainable and copy.get_layer("conv2").trainable
    assert copy.compiled and copy.optimizer is not model.optimizer
    model.trainable = False
    assert not virtual_attention(model).trainable_weights


@keras.saving.register_keras_serializable("tests")
class Composite(keras.layers.Layer):
    """Layers of its own, and a number that it saves beside its weights."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense, self.norm = keras.layers.Dense(4), keras.layers.BatchNormalization()
        self.shift = 0.0

    def build(self, shape):
        self.dense.build(shape)
        self.norm.build((*shape[:-1], 4))

    def call(self, inputs, training=None):
        return self.norm(self.dense(inputs), training=training) + self.shift

    def save_own_variables(self, store):
        store["shift"] = np.array(self.shift)

    def load_own_variables(self, store):
        self.shift = float(store["shift"][()])


@pytest.mark.single_backend
def test_layers_within_layers_keep_their_state_and_stay_frozen():
    inputs = keras.Input(SHAPE)
    inner = keras.Sequential([keras.Input(SHAPE), keras.layers.Conv2D(4, 3)])
    block = Composite(name="block")
    model = randomize(keras.Model(inputs, block(inner(inputs))))
    block.shift, block.norm.trainable = 2.0, False
    inner.trainable = False
    copy = virtual_attention(model)
    np.testing.assert_array_equal(numpy(copy(X)), numpy(model(X)))
    kept = [v.name for v in copy.trainable_variables if v.name != "theta"]
    assert kept == [v.name for v in model.trainable_variables]
    assert copy.get_layer("block").norm.trainable is False
    np.testing.assert_allclose(numpy(fold(copy)(X)), numpy(model(X)), atol=1e-6)


@pytest.mark.single_backend
def test_kerashubs_models():
    hub = pytest.importorskip("keras_hub", reason="KerasHub is not installed.")
    keras.utils.set_random_seed(0)
    backbone = hub.models.EfficientNetBackbone(
        stackwise_width_coefficients=[1.0],
        stackwise_depth_coefficients=[1.0],
        stackwise_kernel_sizes=[3],
        stackwise_num_repeats=[1],
        stackwise_input_filters=[8],
        stackwise_output_filters=[8],
        stackwise_expansion_ratios=[2],
        stackwise_strides=[1],
        stackwise_squeeze_and_excite_ratios=[0.25],
        stackwise_block_types=["v1"],
        stackwise_force_input_filters=[0],
        stackwise_nores_option=[False],
        image_shape=SHAPE,
    )
    classifier = hub.models.ImageClassifier(backbone, num_classes=4)
    for model in (randomize(backbone), classifier):
        copy = virtual_attention(model)
        np.testing.assert_array_equal(numpy(copy(X)), numpy(model(X)))
        assert names(copy) == names(model)
        assert len(convolutions(copy)) == 6


def lora():
    model = network()
    model.get_layer("conv1").enable_lora(2)
    return model


def unbuilt():
    return keras.Sequential([keras.layers.Conv2D(4, 3)], name="unbuilt")


def without_convolutions():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="dense")


def nest(layer, **options):
    inputs = keras.Input(SHAPE)
    return keras.Model(inputs, layer(**options)(inputs), name="outer")


def call_own():
    model = OwnCall(name="own_call")
    model(X)
    return model


def train_own():
    return OwnTraining(4, name="own_training")


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
@pytest.mark.parametrize(
    ("model", "options", "error", "match"),
    [
        (lambda: 3, {}, TypeError, "`model` must be a `keras.Model`.*int"),
        (unbuilt, {}, ValueError, "'unbuilt' is not built"),
        (without_convolutions, {}, ValueError, "'dense' has no `Conv2D` to replace.$"),
        (lambda: virtual_attention(network()), {}, ValueError, "already: `fold` it"),
        (call_own, {}, ValueError, "'own_call'.*OwnCall has a `call` of its own"),
        (train_own, {}, ValueError, "'own_training'.*OwnTraining has a `compute_loss`"),
        (lambda: nest(OwnCall, name="in"), {}, ValueError, "within 'in', a OwnCall"),
        (
            lambda: nest(Block, name="in"),
            {},
            ValueError,
            "within 'in', a Block",
        ),
        (lambda: nest(Block), {"layers": ["conv"]}, ValueError, "'conv' of `layers`"),
        (network, {"layers": ["relu"]}, ValueError, "'relu' of `layers`.*is a ReLU"),
        (network, {"layers": ["conv9"]}, ValueError, "no layer 'conv9'.*conv1"),
        (network, {"layers": "conv1"}, TypeError, "`layers` must be a list of names"),
        (network, {"layers": [1]}, TypeError, "`layers` must be a list of names"),
        (network, {"layers": []}, TypeError, "`layers` must be a list of names"),
        (lora, {}, ValueError, "'conv1' has LoRA"),
        (network, {"blocks": 0}, ValueError, "`blocks`"),
        (network, {"temperature": 0}, ValueError, "`temperature`"),
        (network, {"entropy": -1}, ValueError, "`entropy`"),
    ],
)
def test_what_cannot_be_copied_is_one_error(model, options, error, match):
    with pytest.raises(error, match=match):
        virtual_attention(model(), **options)


@pytest.mark.single_backend
def test_a_layer_that_cannot_be_copied_is_one_error():
    class NoConfig(keras.layers.Layer):
        def __init__(self, width):
            super().__init__()
            self.width = width

        def get_config(self):
            return {}

        def call(self, inputs):
            return ops.relu(inputs)

    inputs = keras.Input(SHAPE)
    outputs = keras.layers.Conv2D(4, 3)(NoConfig(2)(inputs))
    with pytest.raises(ValueError, match="'outer' cannot be copied.*`get_config`"):
        virtual_attention(keras.Model(inputs, outputs, name="outer"))


@pytest.mark.single_backend
def test_layers_leaves_convolutions_within_other_layers_as_they_are():
    inputs = keras.Input(SHAPE)
    x = Block(name="block")(keras.layers.Conv2D(4, 3, name="first")(inputs))
    model = keras.Model(inputs, x)
    copy = virtual_attention(model, layers=["first"])
    assert [e.name for e in convolutions(copy)] == ["first"]
    np.testing.assert_array_equal(numpy(copy(X)), numpy(model(X)))
