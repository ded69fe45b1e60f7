"""One step: what the formula says, on models whose gradient is known."""

import keras
import numpy as np
import pytest

from keras_dtkd.attacks import fgsm
from tests.attacks import oracle
from tests.attacks.oracle import CLASSES, inputs, network

X, Y = inputs()


def linear(w, **options):
    model = keras.Sequential(
        [keras.Input(w.shape[:1]), keras.layers.Dense(w.shape[1], **options)]
    )
    model.set_weights([w, np.zeros(w.shape[1])])
    return model


@pytest.mark.parametrize("head", [None, "softmax"])
def test_on_a_linear_model_of_two_classes_it_is_the_closed_form(head):
    w = np.random.default_rng(0).normal(size=(6, 2)).astype("float32")
    y = Y % 2
    # Up the loss is away from the label's weights, whatever the probabilities.
    away = np.where(y[:, None] == 0, w[:, 1] - w[:, 0], w[:, 0] - w[:, 1])
    found = fgsm(linear(w, activation=head), X, y, 0.1)
    np.testing.assert_allclose(found, np.clip(X + 0.1 * np.sign(away), 0, 1), atol=1e-6)
    found = fgsm(linear(w, activation=head), X, y, 0.1, norm="l2", range=None)
    expected = X + 0.1 * away / oracle.norm(away, 2)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["linf", "l2"])
def test_it_is_one_step_of_the_formula(kind):
    found = fgsm(network(), X, Y, 0.2, norm=kind)
    expected = oracle.ascend(X, Y, 0.2, 1, 0.2, kind)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_it_takes_the_loss_up_and_towards_a_target_down():
    small = {"epsilon": 0.01, "range": None}
    before = oracle.cross_entropy(X, Y)
    up = fgsm(network(), X, Y, **small)
    down = fgsm(network(), X, Y, **small, targeted=True)
    assert (oracle.cross_entropy(up, Y) > before).all()
    assert (oracle.cross_entropy(down, Y) < before).all()


@pytest.mark.parametrize("batch_size", [1, 7])
def test_the_batch_size_changes_nothing(batch_size):
    found = fgsm(network(), X, Y, 0.1, batch_size=batch_size)
    np.testing.assert_allclose(found, fgsm(network(), X, Y, 0.1), atol=1e-6)


def test_one_hot_labels_and_a_column_are_the_same_labels():
    found = fgsm(network(), X, Y, 0.1)
    for same in (np.eye(CLASSES)[Y], np.eye(CLASSES, dtype=int)[Y], Y[:, None]):
        assert np.array_equal(found, fgsm(network(), X, same, 0.1))


def test_a_single_sigmoid_is_a_choice_of_two():
    w = np.random.default_rng(0).normal(size=(6, 1)).astype("float32")
    y = Y % 2
    expected = np.clip(X + 0.1 * np.sign((1 - 2 * y)[:, None] * w[:, 0]), 0, 1)
    for head in (None, "sigmoid"):
        for labels in (y, y[:, None]):
            found = fgsm(linear(w, activation=head), X, labels, 0.1)
            np.testing.assert_allclose(found, expected, atol=1e-6)


def test_several_sigmoids_have_a_label_each():
    w = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
    y = np.random.default_rng(1).integers(2, size=(len(X), 3))
    error = 1 / (1 + np.exp(-X @ w)) - y
    expected = np.clip(X + 0.1 * np.sign(error @ w.T), 0, 1)
    found = fgsm(linear(w, activation="sigmoid"), X, y, 0.1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    "head, scale", [(None, 20), (None, 1000), ("softmax", 20), ("sigmoid", 3)]
)
def test_a_model_that_is_sure_of_itself_has_a_gradient(head, scale):
    w = np.random.default_rng(0).normal(size=(6, 2)).astype("float32")
    y = (X @ w).argmax(-1)
    away = np.where(y[:, None] == 0, w[:, 1] - w[:, 0], w[:, 0] - w[:, 1])
    model = linear(scale * w, activation=head)
    if head == "sigmoid":
        model = linear(scale * (w[:, 1:] - w[:, :1]), activation=head)
    for kind, up in (("linf", np.sign(away)), ("l2", away / oracle.norm(away, 2))):
        found = fgsm(model, X, y, 0.1, norm=kind, range=None)
        np.testing.assert_allclose(found, X + 0.1 * up, atol=1e-5)


@pytest.mark.parametrize("kind", ["linf", "l2"])
def test_where_nothing_depends_on_the_input_it_stays(kind):
    found = fgsm(linear(np.zeros((6, 3), "float32")), X, Y % 3, 0.1, norm=kind)
    assert np.array_equal(found, X)


def test_the_answer_is_float32_numpy_of_the_inputs_shape():
    for x in (X, X.astype("float64"), X.astype("float16"), keras.ops.array(X)):
        found = fgsm(network(), x, Y, 0.1)
        assert isinstance(found, np.ndarray)
        assert found.dtype == "float32" and found.shape == X.shape
