"""DTKD's degenerate minimum: the published loss finds it, the default does not.

The nearest use without labels: nothing but the dynamic term teaches the student, and
shrinking its logits to nothing lowers that term whatever it has learned.
"""

import warnings

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.losses import DTKD

L = keras.layers


@pytest.fixture(scope="module")
def digits():
    datasets = pytest.importorskip("sklearn.datasets", reason="needs scikit-learn")
    data = datasets.load_digits()
    x = (data.images / 16).astype("float32")[..., None]
    return (x[:1437], data.target[:1437]), (x[1437:], data.target[1437:])


@pytest.fixture(scope="module")
def teacher(digits):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            L.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
            L.Flatten(),
            L.Dense(64, activation="relu"),
            L.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    model.fit(*digits[0], epochs=10, batch_size=64, verbose=0)
    return model


def small_student():
    """1,898 parameters."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            L.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
            L.Conv2D(16, 3, strides=2, padding="same", activation="relu"),
            L.Flatten(),
            L.Dense(10),
        ]
    )


def distil(teacher, digits, loss, seed):
    """Test accuracy, mean student temperature by epoch, and warnings."""
    keras.utils.set_random_seed(seed)
    distiller = Distiller(teacher, small_student(), loss)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = distiller.fit(digits[0][0], epochs=6, verbose=0).history
    x, y = digits[1]
    right = np.argmax(distiller.predict(x, verbose=0), axis=-1) == y
    warned = [str(w.message) for w in caught if "fallen" in str(w.message)]
    return right.mean(), [float(t) for t in history["student_temperature"]], warned


def test_published_loss_collapses_the_student_and_warns(teacher, digits):
    loss = DTKD.published(beta=0.0, warmup_epochs=0)
    _, temperatures, warned = distil(teacher, digits, loss, seed=1)
    assert temperatures[-1] < 0.05
    assert temperatures[-1] < temperatures[-2] < temperatures[0]
    assert len(warned) == 1
    for remedy in ("rule='exact'", "stop_gradient='weight'", "warmup_epochs"):
        assert remedy in warned[0]


def test_exact_rule_learns_where_the_published_loss_collapses(teacher, digits):
    exact, published = [], []
    for seed in (1, 2, 3):
        loss = DTKD(beta=0.0, warmup_epochs=0)
        accuracy, temperatures, warned = distil(teacher, digits, loss, seed)
        assert temperatures[-1] > temperatures[0]
        assert not warned
        exact.append(accuracy)
        loss = DTKD.published(beta=0.0, warmup_epochs=0)
        published.append(distil(teacher, digits, loss, seed)[0])
    assert min(exact) > 0.8
    assert np.mean(exact) > np.mean(published) + 0.1


def test_labels_and_the_fixed_term_lead_out_of_it_without_a_warning(teacher, digits):
    keras.utils.set_random_seed(1)
    distiller = Distiller(teacher, small_student(), DTKD(rule="max"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        history = distiller.fit(*digits[0], epochs=6, verbose=0).history
    assert history["student_temperature"][-1] > 0.2
