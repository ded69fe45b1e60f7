"""One step, compared with the formula on models with a known gradient."""

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


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_a_linear_model_of_two_classes_gives_the_closed_form(activation):
    w = np.random.default_rng(0).normal(size=(6, 2)).astype("float32")
    y = Y % 2
    # The loss increases away from the label's weights, for all probabilities.
    away = np.where(y[:, None] == 0, w[:, 1] - w[:, 0], w[:, 0] - w[:, 1])
    x_adv = fgsm(linear(w, activation=activation), X, y, 0.1)
    np.testing.assert_allclose(x_adv, np.clip(X + 0.1 * np.sign(away), 0, 1), atol=1e-6)
    x_adv = fgsm(linear(w, activation=activation), X, y, 0.1, norm="l2", range=None)
    expected = X + 0.1 * away / oracle.norm(away, 2)
    np.testing.assert_allclose(x_adv, expected, atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fgsm_is_one_step_of_the_formula(norm):
    x_adv = fgsm(network(), X, Y, 0.2, norm=norm)
    expected = oracle.iterate(X, Y, 0.2, 1, 0.2, norm)
    np.testing.assert_allclose(x_adv, expected, atol=1e-5)


def test_the_loss_increases_and_that_of_a_target_decreases():
    small = {"epsilon": 0.01, "range": None}
    before = oracle.cross_entropy(X, Y)
    untargeted = fgsm(network(), X, Y, **small)
    targeted = fgsm(network(), X, Y, **small, targeted=True)
    assert (oracle.cross_entropy(untargeted, Y) > before).all()
    assert (oracle.cross_entropy(targeted, Y) < before).all()


@pytest.mark.parametrize("batch_size", [1, 7])
def test_the_batch_size_does_not_change_the_result(batch_size):
    x_adv = fgsm(network(), X, Y, 0.1, batch_size=batch_size)
    np.testing.assert_allclose(x_adv, fgsm(network(), X, Y, 0.1), atol=1e-6)


def test_one_hot_and_column_labels_equal_class_indices():
    x_adv = fgsm(network(), X, Y, 0.1)
    for labels in (np.eye(CLASSES)[Y], np.eye(CLASSES, dtype=int)[Y], Y[:, None]):
        assert np.array_equal(x_adv, fgsm(network(), X, labels, 0.1))


def test_a_single_output_is_binary_classification():
    w = np.random.default_rng(0).normal(size=(6, 1)).astype("float32")
    y = Y % 2
    expected = np.clip(X + 0.1 * np.sign((1 - 2 * y)[:, None] * w[:, 0]), 0, 1)
    for activation in (None, "sigmoid"):
        for labels in (y, y[:, None]):
            x_adv = fgsm(linear(w, activation=activation), X, labels, 0.1)
            np.testing.assert_allclose(x_adv, expected, atol=1e-6)


def test_several_sigmoids_have_one_label_each():
    w = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
    y = np.random.default_rng(1).integers(2, size=(len(X), 3))
    error = 1 / (1 + np.exp(-X @ w)) - y
    expected = np.clip(X + 0.1 * np.sign(error @ w.T), 0, 1)
    x_adv = fgsm(linear(w, activation="sigmoid"), X, y, 0.1)
    np.testing.assert_allclose(x_adv, expected, atol=1e-5)


@pytest.mark.parametrize(
    "activation, scale", [(None, 20), (None, 1000), ("softmax", 20), ("sigmoid", 3)]
)
def test_a_confident_model_has_a_gradient(activation, scale):
    w = np.random.default_rng(0).normal(size=(6, 2)).astype("float32")
    y = (X @ w).argmax(-1)
    away = np.where(y[:, None] == 0, w[:, 1] - w[:, 0], w[:, 0] - w[:, 1])
    model = linear(scale * w, activation=activation)
    if activation == "sigmoid":
        model = linear(scale * (w[:, 1:] - w[:, :1]), activation=activation)
    for norm, step in (("linf", np.sign(away)), ("l2", away / oracle.norm(away, 2))):
        x_adv = fgsm(model, X, y, 0.1, norm=norm, range=None)
        np.testing.assert_allclose(x_adv, X + 0.1 * step, atol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_constant_outputs_leave_the_inputs_unchanged(norm):
    x_adv = fgsm(linear(np.zeros((6, 3), "float32")), X, Y % 3, 0.1, norm=norm)
    assert np.array_equal(x_adv, X)


def test_the_result_is_float32_numpy_of_the_shape_of_the_inputs():
    for x in (X, X.astype("float64"), X.astype("float16"), keras.ops.array(X)):
        x_adv = fgsm(network(), x, Y, 0.1)
        assert isinstance(x_adv, np.ndarray)
        assert x_adv.dtype == "float32" and x_adv.shape == X.shape
