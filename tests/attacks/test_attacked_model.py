"""Every output kind, inference mode, and a model that does not change."""

import warnings

import keras
import numpy as np
import pytest

from keras_dtkd.attacks import fgsm, pgd, robust_accuracy
from keras_dtkd.attacks.attacked_model import AttackedModel
from tests.attacks import oracle, trained
from tests.attacks.oracle import CLASSES, FEATURES, inputs, network
from tests.tiny_models import Counting, everything, two_outputs

X, Y = inputs()
OPTIONS = {"steps": 5, "random_start": False}


class Subclassed(keras.Model):
    """Layers that cannot be inspected, and a layer that depends on `training`."""

    def __init__(self, activation):
        super().__init__()
        self.inner = network()
        self.dropout = keras.layers.Dropout(0.5, seed=1)
        self.activation = activation

    def call(self, inputs, training=None):
        return self.activation(self.dropout(self.inner(inputs), training=training))


@pytest.mark.parametrize("from_logits", ["auto", False])
def test_attacks_on_probabilities_equal_attacks_on_logits(from_logits):
    expected = pgd(network(), X, Y, 0.2, **OPTIONS)
    x_adv = pgd(network("softmax"), X, Y, 0.2, from_logits=from_logits, **OPTIONS)
    np.testing.assert_allclose(x_adv, expected, atol=1e-5)


def test_the_output_kind_of_a_subclassed_model_comes_from_its_values():
    expected = pgd(network(), X, Y, 0.2, **OPTIONS)
    for activation in (keras.activations.softmax, keras.activations.linear):
        model = Subclassed(activation)
        model(X)
        x_adv = pgd(model, X, Y, 0.2, **OPTIONS)
        np.testing.assert_allclose(x_adv, expected, atol=1e-5)


@pytest.mark.parametrize("structure", ["dict", "list"])
def test_one_of_several_outputs_is_chosen_by_name_or_index(structure):
    model = two_outputs(structure)
    x_adv = fgsm(model, X, Y, 0.1, output="label" if structure == "dict" else 0)
    assert np.abs(x_adv - X).max() > 0.09
    with pytest.raises(ValueError, match="`fgsm`: the model has several outputs"):
        fgsm(model, X, Y, 0.1)
    with pytest.raises(ValueError, match="has no output 'none'"):
        fgsm(model, X, Y, 0.1, output="none")


def test_a_dict_with_one_output_needs_no_name():
    inner = network()
    model = keras.Model(inner.inputs, {"only": inner.outputs[0]})
    expected = fgsm(network(), X, Y, 0.1)
    np.testing.assert_allclose(fgsm(model, X, Y, 0.1), expected, atol=1e-6)


def model_with_training_state():
    """Noise, dropout, batch normalization, regularizers and an optimizer."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.GaussianNoise(0.1, seed=1),
            keras.layers.Conv2D(4, 3, activity_regularizer="l2"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5, seed=2),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(CLASSES, kernel_regularizer="l2"),
        ]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.layers[1].trainable = False
    return model


def test_attacks_do_not_change_the_model_or_the_inputs():
    x = np.random.default_rng(0).uniform(size=(10, 8, 8, 1)).astype("float32")
    y = np.arange(10) % CLASSES
    model = model_with_training_state()
    model.train_on_batch(x, y)
    before, x_before = everything(model), x.copy()
    pgd(model, x, y, 0.1, restarts=2, diversity=0.5, momentum=0.5, batch_size=4)
    robust_accuracy(model, x, y, 0.1, norm="l2", steps=2)
    assert everything(model) == before and (x == x_before).all()


def test_torch_weights_have_no_gradient_after_an_attack():
    if keras.backend.backend() != "torch":
        pytest.skip("other backends do not store gradients in variables")
    model = network()
    pgd(model, X, Y, 0.1, steps=2)
    assert all(weight.value.grad is None for weight in model.trainable_variables)


def test_global_seeds_are_neither_read_nor_changed():
    def sample():
        return keras.ops.convert_to_numpy(keras.random.normal((3,)))

    samples, model = [], network()
    for runs_attack in (False, True):
        keras.utils.set_random_seed(5)
        if runs_attack:
            pgd(model, X, Y, 0.1, steps=1)
        samples.append((sample(), np.random.uniform()))
    (keras_before, numpy_before), (keras_after, numpy_after) = samples
    assert np.array_equal(keras_before, keras_after) and numpy_before == numpy_after


def test_the_model_runs_in_inference_mode():
    model = trained.model()
    x, y = trained.data()
    options = {"steps": 3, "random_start": False}
    expected = pgd(model, x, y, 0.1, batch_size=200, **options)[150:]
    # In training mode, samples would depend on the statistics of their batch.
    x_adv = pgd(model, x[150:], y[150:], 0.1, **options)
    assert np.mean(np.abs(x_adv - expected) < 1e-5) > 0.995


def test_batches_and_restarts_are_compiled_once():
    if keras.backend.backend() == "torch":
        pytest.skip("torch does not compile")
    inner = network()
    counting = Counting()
    model = keras.Sequential([keras.Input((FEATURES,)), counting, *inner.layers])
    before = counting.counts["calls"]
    pgd(model, X, Y, 0.1, steps=3, restarts=4, seed=0, batch_size=12)
    # Once symbolically, for the shape; once for the gradient; once for the prediction.
    assert counting.counts["calls"] - before <= 3


def test_every_call_uses_the_current_weights():
    model = network()
    attacked = AttackedModel("test", model, X, None, "auto", 32)
    x, y = attacked.pad_batch(X, Y)
    for seed in (0, 3):
        model.set_weights(oracle.weights(seed))
        results = attacked.loss_and_correct(x, y)
        loss, correct = map(keras.ops.convert_to_numpy, results)
        gradient = keras.ops.convert_to_numpy(attacked.gradient(x, y))
        expected = oracle.cross_entropy(X, Y, seed)
        np.testing.assert_allclose(np.logaddexp(0, loss), expected, rtol=1e-4)
        assert (correct == (oracle.logits(X, seed).argmax(-1) == Y)).all()
        expected = oracle.gradient(X, Y, seed)
        np.testing.assert_allclose(
            gradient / oracle.norm(gradient, 2),
            expected / oracle.norm(expected, 2),
            atol=1e-4,
        )


def test_a_zero_gradient_gives_one_warning():
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Embedding(2, 3),
            keras.layers.Flatten(),
            keras.layers.Dense(CLASSES),
        ]
    )
    with pytest.warns(UserWarning, match="`pgd`: the gradient is exactly 0") as caught:
        pgd(model, X, Y, 0.1, steps=2, batch_size=12)
    zero_gradient = [w for w in caught if "exactly 0 for all" in str(w.message)]
    assert len(zero_gradient) == 1
    assert zero_gradient[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        pgd(network(), X, Y, 0.1, steps=2)


def test_bfloat16_models_can_be_attacked():
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(9, activation="tanh", dtype="mixed_bfloat16"),
            keras.layers.Dense(CLASSES, dtype="mixed_bfloat16"),
        ]
    )
    model.set_weights(oracle.weights())
    x_adv = pgd(model, X, Y, 0.2, seed=0)
    assert oracle.cross_entropy(x_adv, Y).mean() > oracle.cross_entropy(X, Y).mean() + 1
