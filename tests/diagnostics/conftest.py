"""Digits, and a teacher trained on them once."""

from typing import Any, NamedTuple

import keras
import pytest
from keras import layers


class Digits(NamedTuple):
    x: Any
    y: Any
    teacher: Any


def network(*sizes, activation=None, rescaling=True):
    """A network for images of 0 to 16, which rescales them to 0 to 1 itself."""
    first = [keras.Input((64,))] + [layers.Rescaling(1 / 16)] * rescaling
    hidden = [layers.Dense(size, "relu") for size in sizes]
    return keras.Sequential([*first, *hidden, layers.Dense(10, activation)])


def train(model, x, y, epochs):
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(x, y, batch_size=100, epochs=epochs, verbose=0)
    return model


@pytest.fixture(scope="session")
def digits():
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_digits(return_X_y=True)
    keras.utils.set_random_seed(0)
    x = x.astype("float32")
    return Digits(x, y, train(network(64), x, y, epochs=8))


@pytest.fixture
def student():
    keras.utils.set_random_seed(1)
    return network(16)
