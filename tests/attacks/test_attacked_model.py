"""Any head, any output, and a model that does not notice."""

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
SAME = {"steps": 5, "random_start": False}


class Own(keras.Model):
    """Layers that nobody can read, and a layer that knows whether it trains."""

    def __init__(self, head):
        super().__init__()
        self.inner = network()
        self.drop = keras.layers.Dropout(0.5, seed=1)
        self.head = head

    def call(self, inputs, training=None):
        return self.head(self.drop(self.inner(inputs), training=training))


@pytest.mark.parametrize("from_logits", ["auto", False])
def test_probabilities_are_attacked_as_the_logits_they_come_from(from_logits):
    expected = pgd(network(), X, Y, 0.2, **SAME)
    found = pgd(network("softmax"), X, Y, 0.2, from_logits=from_logits, **SAME)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_class_of_ones_own_is_known_by_its_values():
    expected = pgd(network(), X, Y, 0.2, **SAME)
    for head in (keras.activations.softmax, lambda z: z):
        model = Own(head)
        model(X)
        found = pgd(model, X, Y, 0.2, **SAME)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["dict", "list"])
def test_one_output_of_several_is_named(kind):
    model = two_outputs(kind)
    found = fgsm(model, X, Y, 0.1, output="label" if kind == "dict" else 0)
    assert np.abs(found - X).max() > 0.09
    with pytest.raises(ValueError, match="`fgsm`: the model has several outputs"):
        fgsm(model, X, Y, 0.1)
    with pytest.raises(ValueError, match="has no output 'none'"):
        fgsm(model, X, Y, 0.1, output="none")


def test_a_dict_of_one_output_needs_no_name():
    inner = network()
    model = keras.Model(inner.inputs, {"only": inner.outputs[0]})
    expected = fgsm(network(), X, Y, 0.1)
    np.testing.assert_allclose(fgsm(model, X, Y, 0.1), expected, atol=1e-6)


def busy():
    """A model of everything that inference mode must silence, and its optimizer."""
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


def test_nothing_of_the_model_changes():
    x = np.random.default_rng(0).uniform(size=(10, 8, 8, 1)).astype("float32")
    y = np.arange(10) % CLASSES
    model = busy()
    model.train_on_batch(x, y)
    before, kept = everything(model), x.copy()
    pgd(model, x, y, 0.1, restarts=2, diversity=0.5, momentum=0.5, batch_size=4)
    robust_accuracy(model, x, y, 0.1, norm="l2", steps=2)
    assert everything(model) == before and (x == kept).all()


def test_no_gradient_stays_with_the_weights():
    if keras.backend.backend() != "torch":
        pytest.skip("gradients are results elsewhere")
    model = network()
    pgd(model, X, Y, 0.1, steps=2)
    assert all(weight.value.grad is None for weight in model.trainable_variables)


def test_keras_seed_is_neither_read_nor_moved():
    def draw():
        return keras.ops.convert_to_numpy(keras.random.normal((3,)))

    found, model = [], network()
    for attacked in (False, True):
        keras.utils.set_random_seed(5)
        if attacked:
            pgd(model, X, Y, 0.1, steps=1)
        found.append((draw(), np.random.uniform()))
    assert np.array_equal(found[0][0], found[1][0]) and found[0][1] == found[1][1]


def test_the_model_is_in_inference_mode():
    model = trained.model()
    x, y = trained.data()
    some = {"steps": 3, "random_start": False}
    whole = pgd(model, x, y, 0.1, batch_size=200, **some)
    # In training mode a batch's statistics would make its samples depend on others.
    found = pgd(model, x[150:], y[150:], 0.1, **some)
    assert np.mean(np.abs(found - whole[150:]) < 1e-5) > 0.995


def test_no_batch_and_no_restart_is_compiled_again():
    if keras.backend.backend() == "torch":
        pytest.skip("nothing is compiled there")
    inner = network()
    counting = Counting()
    model = keras.Sequential([keras.Input((FEATURES,)), counting, *inner.layers])
    before = counting.counts["calls"]
    pgd(model, X, Y, 0.1, steps=3, restarts=4, seed=0, batch_size=12)
    # Once symbolically, for the shape; once for the gradient; once for the answer.
    assert counting.counts["calls"] - before <= 3


def test_weights_are_read_anew_with_each_question():
    model = network()
    victim = AttackedModel("test", model, X, None, "auto", 32)
    x, y = victim.filled(X, Y)
    for seed in (0, 3):
        model.set_weights(oracle.weights(seed))
        height, right = map(keras.ops.convert_to_numpy, victim.judge(x, y))
        gradient = keras.ops.convert_to_numpy(victim.gradient(x, y))
        expected = oracle.cross_entropy(X, Y, seed)
        np.testing.assert_allclose(np.logaddexp(0, height), expected, rtol=1e-4)
        assert (right == (oracle.logits(X, seed).argmax(-1) == Y)).all()
        slope = oracle.gradient(X, Y, seed)
        np.testing.assert_allclose(
            gradient / oracle.norm(gradient, 2),
            slope / oracle.norm(slope, 2),
            atol=1e-4,
        )


def test_a_gradient_that_is_nothing_is_a_warning_once():
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Embedding(2, 3),
            keras.layers.Flatten(),
            keras.layers.Dense(CLASSES),
        ]
    )
    with pytest.warns(UserWarning, match="`pgd`: the gradient is exactly 0") as told:
        pgd(model, X, Y, 0.1, steps=2, batch_size=12)
    assert sum("exactly 0 for all" in str(one.message) for one in told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        pgd(network(), X, Y, 0.1, steps=2)


def test_half_precision_is_attacked_too():
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(9, activation="tanh", dtype="mixed_bfloat16"),
            keras.layers.Dense(CLASSES, dtype="mixed_bfloat16"),
        ]
    )
    model.set_weights(oracle.weights())
    found = pgd(model, X, Y, 0.2, seed=0)
    assert oracle.cross_entropy(found, Y).mean() > oracle.cross_entropy(X, Y).mean() + 1
