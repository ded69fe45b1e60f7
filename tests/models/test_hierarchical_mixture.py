"""A mixture equals its formula, trains in every part, and hardens to a tree."""

import json

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller, models
from keras_dtkd.callbacks import AttentionTemperature
from keras_dtkd.core.layer_tree import iter_layers
from keras_dtkd.core.logits import OutputKind, infer_output_kind
from keras_dtkd.losses import KD
from tests.models.mixtures import (
    LEVELS,
    attention_of,
    entropy_of,
    mixture,
    thetas,
)
from tests.tensors import numpy
from tests.tiny_models import CLASSES, data, distiller, numbers, same, teacher

X, Y = data(24)
CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.fixture
def policy():
    """Restores the global policy."""
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


def reference(model, x):
    """The logits, float64, from the weights."""

    def dense(name, inputs):
        layer = model.get_layer(name).get_layer("dense")
        return np.maximum(inputs @ numpy(layer.kernel) + numpy(layer.bias), 0)

    d = [attention_of(theta, 1.0) for theta in thetas(model)]
    first = [dense(f"level1_block{j}", x.astype("float64")) for j in (1, 2)]
    mixes = np.einsum("cp,pbf->cbf", d[0], first)
    second = [dense(f"level2_block{j}", mixes[j - 1]) for j in (1, 2, 3)]
    hidden = np.einsum("cp,pbf->cbf", d[1], second)
    heads = model.get_layer("logits")
    hidden = np.maximum(hidden @ numpy(heads.hidden_kernels[0]), 0)
    return (hidden @ numpy(heads.kernel))[..., 0].T


def test_logits_equal_the_formula():
    model = mixture()
    logits = model.predict(X, verbose=0)
    np.testing.assert_allclose(logits, reference(model, X), rtol=1e-4, atol=1e-5)


def test_attention_is_measured_level_by_level():
    model = mixture(temperature=0.5)
    attention = model.compute_attention()
    assert [a.shape for a in attention] == [(3, 2), (CLASSES, 3)]
    for measured, theta in zip(attention, thetas(model), strict=True):
        np.testing.assert_allclose(measured, attention_of(theta, 0.5), rtol=2e-5)
        np.testing.assert_allclose(measured.sum(-1), 1, rtol=1e-6)


def conv_mixture(**options):
    keras.utils.set_random_seed(3)
    options = {"data_format": "channels_last", **options}
    block = models.conv_block(4, data_format="channels_last")
    return models.HierarchicalMixture(
        *(3, (8, 8, 2), LEVELS, block, models.ClassHeads((5,), 0.0)), **options
    )


@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_every_trainable_weight_gets_a_gradient(kind):
    model, x, y = mixture(block=models.dense_block(12, normalize=True)), X, Y
    if kind == "conv":
        x = np.random.default_rng(0).normal(size=(16, 8, 8, 2)).astype("float32")
        model, y = conv_mixture(), np.arange(16) % 3
    model.compile(keras.optimizers.SGD(1.0), CROSS_ENTROPY)
    before = [numpy(v) for v in model.trainable_variables]
    model.train_on_batch(x, y)
    for v, old in zip(model.trainable_variables, before, strict=True):
        # A bias has no gradient in front of a batch norm.
        assert v.path.endswith("dense/bias") or (numpy(v) != old).any(), v.path


@pytest.mark.invariant(number=6)
def test_saturated_attention_trains_without_nan():
    model = mixture(entropy_weight=0.1)
    for attention in model.attentions:
        signs = np.sign(np.random.default_rng(0).normal(size=attention.theta.shape))
        attention.theta.assign(1e4 * signs)
        attention.attention_temperature.assign(1e-30)
    model.compile(keras.optimizers.SGD(0.1), CROSS_ENTROPY)
    assert np.isfinite(model.train_on_batch(X, Y))
    assert all(np.isfinite(w).all() for w in model.get_weights())


@pytest.mark.invariant(number=8)
def test_a_file_holds_the_mixture_bit_for_bit(tmp_path):
    model = conv_mixture(pooling="average", entropy_weight=0.1, temperature=0.3)
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 2)).astype("float32")
    model.save(tmp_path / "mixture.keras")
    loaded = keras.saving.load_model(tmp_path / "mixture.keras")
    assert same(model, loaded)
    outputs = (each.predict(x, verbose=0) for each in (model, loaded))
    np.testing.assert_array_equal(*outputs)
    config = json.loads(json.dumps(model.get_config()))
    assert json.loads(json.dumps(loaded.get_config())) == config


@pytest.mark.single_backend
@pytest.mark.parametrize("kind", ["new", "loaded", "functional"])
def test_no_two_variables_share_a_path(kind):
    # Under torch, gradients of all but one of them would add up over the steps.
    model = mixture()
    if kind == "loaded":
        model = type(model).from_config(model.get_config())
    if kind == "functional":
        inputs = keras.Input((6,))
        model = mixture(block=keras.Model(inputs, keras.layers.Dense(6)(inputs)))
    paths = [variable.path for variable in model.variables]
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize("name", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_is_in_the_file(name, policy, tmp_path):
    policy(name)
    model = mixture()
    model.compile(keras.optimizers.SGD(0.1), CROSS_ENTROPY)
    assert np.isfinite(model.train_on_batch(X, Y))
    logits = model.predict(X, verbose=0)
    assert logits.dtype == "float32"
    model.save(tmp_path / "mixture.keras")
    policy("float32")
    loaded = keras.saving.load_model(tmp_path / "mixture.keras", compile=False)
    assert loaded.get_layer("level2_block1").layers[0].compute_dtype == name[6:]
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), logits)


def test_a_distiller_trains_it_at_the_temperature_of_each_epoch():
    model = mixture()
    d = distiller(KD(), keras.optimizers.SGD(0.0), student=model)
    logs = d.fit(
        *(X, Y, 24, 3, 0), callbacks=[AttentionTemperature(lambda e: 10.0 ** (1 - e))]
    ).history
    assert logs["attention_temperature"] == pytest.approx([10.0, 1.0, 0.1])
    model.compile(loss=CROSS_ENTROPY)
    for t, loss in zip((10.0, 1.0, 0.1), logs["task_loss"], strict=True):
        for attention in model.attentions:
            attention.attention_temperature.assign(t)
        assert loss == pytest.approx(model.evaluate(X, Y, verbose=0), rel=1e-4)
    assert len({round(loss, 5) for loss in logs["task_loss"]}) == 3


def test_the_entropy_penalty_counts_in_a_distiller():
    model = mixture(entropy_weight=0.5)
    before = sum(map(entropy_of, model.compute_attention()))
    d = distiller(KD(weight=2.0), keras.optimizers.SGD(0.3), student=model)
    d.compile(keras.optimizers.SGD(0.0), CROSS_ENTROPY)
    logs = d.fit(X, Y, batch_size=24, verbose=0).history
    penalty = logs["loss"][0] - logs["task_loss"][0] - 2 * logs["kd"][0]
    assert penalty == pytest.approx(0.5 * before, rel=1e-4)
    strong = mixture(entropy_weight=50.0)
    d = Distiller(teacher(), strong, KD())
    d.compile(keras.optimizers.SGD(0.01), CROSS_ENTROPY)
    d.fit(X, Y, batch_size=24, epochs=5, verbose=0)
    assert sum(map(entropy_of, strong.compute_attention())) < before


def test_a_hardened_mixture_is_the_tree_of_the_strongest_connections():
    model = mixture()
    tree = model.harden()
    for hard, theta in zip(tree.compute_attention(), thetas(model), strict=True):
        expected = np.eye(theta.shape[1])[theta.argmax(-1)]
        np.testing.assert_array_equal(hard, expected)
    assert same(model, tree)
    # It is a mixture of its own.
    tree.compile(keras.optimizers.SGD(0.1), CROSS_ENTROPY)
    before = numbers(model)
    tree.fit(X, Y, epochs=1, verbose=0)
    assert same(before, model) and not same(before, tree)
    assert all((a == b).all() for a, b in zip(thetas(tree), thetas(model), strict=True))


def test_layers_that_are_not_trained_are_not_in_the_tree():
    model = mixture()
    model.blocks[0][1].trainable = model.get_layer("logits").trainable = False
    tree = model.harden()
    flags = [
        [layer.trainable for layer in each.layers if layer not in each.attentions]
        for each in (model, tree)
    ]
    assert flags[0] == flags[1] and flags[0].count(False) == 2


def freeze_a_block(model):
    model.blocks[0][0].trainable = False


def freeze_an_inner_layer(model):
    model.blocks[0][1].get_layer("dense").trainable = False


def freeze_all_but_an_inner_layer(model):
    model.trainable = False
    model.blocks[1][2].get_layer("dense").trainable = True


def freeze_heads_and_attention(model):
    model.get_layer("logits").trainable = model.attentions[0].trainable = False


@pytest.mark.single_backend
@pytest.mark.parametrize(
    "freeze",
    [
        freeze_a_block,
        freeze_an_inner_layer,
        freeze_all_but_an_inner_layer,
        freeze_heads_and_attention,
    ],
)
def test_each_layer_is_trained_or_not_as_before_in_a_file_and_in_the_tree(
    freeze, tmp_path
):
    model = mixture()
    freeze(model)
    model.save(tmp_path / "mixture.keras")
    for copy in (keras.saving.load_model(tmp_path / "mixture.keras"), model.harden()):
        flags = [
            [layer.trainable for layer in iter_layers(each.layers)]
            for each in (copy, model)
        ]
        assert flags[0] == flags[1] and False in flags[0]
        names = [
            [v.path for v in each.trainable_variables if v.name != "theta"]
            for each in (copy, model)
        ]
        assert names[0] == names[1]
    assert same(copy, model)


@pytest.mark.single_backend
def test_blocks_of_a_class_that_no_file_can_hold_can_be_hardened():
    class Local(keras.layers.Dense):
        """Not registered."""

    model = mixture(block=Local(6, "relu"))
    assert same(model, model.harden())


def test_a_dead_block_is_named_and_gets_no_gradient():
    model = mixture()
    first, last = model.attentions
    # Block 2 of the first level feeds only block 3 of the second, which has no class.
    first.theta.assign([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    last.theta.assign([[1.0, 0.5, 0.0]] * 2 + [[0.5, 1.0, 0.0]] * 2)
    tree = model.harden()
    assert model.find_dead_blocks() == tree.find_dead_blocks()
    assert tree.find_dead_blocks() == ["level1_block2", "level2_block3"]
    tree.compile(keras.optimizers.SGD(1.0), CROSS_ENTROPY)
    tree.train_on_batch(X, Y)
    for block in (layer for blocks in tree.blocks for layer in blocks):
        is_dead = block.name in tree.find_dead_blocks()
        assert same(block, model.get_layer(block.name)) == is_dead


@pytest.mark.single_backend
def test_a_short_second_stage_keeps_the_accuracy_on_digits():
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_digits(return_X_y=True)
    x, (train, test) = x.astype("float32") / 16, (slice(0, 1200), slice(1200, None))
    keras.utils.set_random_seed(0)
    block, heads = models.dense_block(24), models.ClassHeads((16,), 0.0)
    soft = models.HierarchicalMixture(10, (64,), (2, 4), block, heads)

    def train_and_evaluate(model, epochs, callbacks):
        adam = keras.optimizers.Adam(0.01)
        model.compile(adam, CROSS_ENTROPY, metrics=["accuracy"])
        model.fit(x[train], y[train], 50, epochs, verbose=0, callbacks=callbacks)
        return model.evaluate(x[test], y[test], verbose=0)[1]

    before = train_and_evaluate(soft, 8, [AttentionTemperature()])
    after = train_and_evaluate(soft.harden(), 3, [])
    assert before > 0.85 and after >= 0.95 * before


@pytest.mark.single_backend
def test_the_default_is_the_published_network():
    model = models.HierarchicalMixture(10, (32, 32, 3), data_format="channels_last")
    assert [len(blocks) for blocks in model.blocks] == [2, 4, 8]
    maps = [blocks[0].output.shape[1:] for blocks in model.blocks]
    assert maps == [(16, 16, 64), (8, 8, 64), (4, 4, 32)]
    shapes = [kernel.shape for kernel in model.get_layer("logits").hidden_kernels]
    assert [tuple(s) for s in shapes] == [(10, 512, 128), (10, 128, 128)]
    assert infer_output_kind(model) == OutputKind.LOGITS


@pytest.mark.single_backend
def test_copies_of_a_block_have_values_of_their_own():
    block = keras.layers.Dense(6, activation="relu")
    model = mixture(block=[block, models.dense_block(4)])
    first, second = (numpy(layer.kernel) for layer in model.blocks[0])
    assert not block.built and not np.allclose(first, second)


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"levels": ()}, ValueError, "`levels` must be"),
        ({"levels": (2, 0)}, ValueError, r"`levels` must be 2 integers.*\(2, 0\)"),
        ({"levels": 3}, ValueError, "`levels`.*levels=3"),
        ({"block": "dense"}, TypeError, "`block` must be a Keras layer.*'dense'"),
        ({"heads": models.conv_block}, TypeError, "`heads` must be a Keras layer"),
        ({"block": [models.dense_block(4)]}, ValueError, "each of the 2.*1 layers"),
        ({"pooling": "max"}, ValueError, "`pooling` must be one of.*'max'"),
        ({"temperature": -1.0}, ValueError, "`temperature`.*-1.0"),
        ({"data_format": "nhwc"}, ValueError, "`data_format`.*'nhwc'"),
        ({"heads": keras.layers.Dense(2)}, ValueError, r"logits \(batch, 4\)"),
    ],
)
def test_wrong_arguments_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        mixture(**options)


@pytest.mark.single_backend
def test_a_function_may_return_the_block(tmp_path):
    blocks = [models.dense_block(6), lambda: models.dense_block(5)]
    for block in (lambda: models.dense_block(6), blocks):
        model = mixture(block=block)
        widths = [level[0].output.shape[-1] for level in model.blocks]
        assert widths == ([6, 5] if block is blocks else [6, 6])
        model.save(tmp_path / "mixture.keras")
        assert same(model, keras.saving.load_model(tmp_path / "mixture.keras"))


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
def test_the_default_block_is_refused_for_vectors():
    with pytest.raises(ValueError, match=r"for images.*\(6,\).*dense_block"):
        models.HierarchicalMixture(4, (6,))


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
@pytest.mark.parametrize("levels", [8, ()])
def test_levels_that_are_no_list_are_refused(levels):
    with pytest.raises(ValueError, match="number of blocks in each level"):
        mixture(levels=levels)


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
def test_a_single_class_is_refused():
    with pytest.raises(ValueError, match="`num_classes` must be at least 2"):
        models.HierarchicalMixture(1, (6,), block=models.dense_block(4))


@pytest.mark.single_backend
def test_statistics_of_blocks_follow_a_short_training():
    """Of Keras's momentum, they would be those of the first steps, and chance."""
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    x, y = digits.images[:640, ..., None].astype("float32") / 16, digits.target[:640]
    model = models.HierarchicalMixture(10, (8, 8, 1), block=models.conv_block(8))
    model.compile(keras.optimizers.Adam(3e-3), CROSS_ENTROPY, metrics=["accuracy"])
    history = model.fit(x, y, batch_size=64, epochs=6, verbose=0).history
    accuracy = model.evaluate(x, y, verbose=0, return_dict=True)["accuracy"]
    assert accuracy > history["accuracy"][-1] - 0.05
