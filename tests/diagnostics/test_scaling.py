"""Inputs of another scale are told from teachers that know little, or too much."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_dtkd import diagnose

SCALES = 10.0 ** np.arange(-3, 3)


def told(teacher, student, x, y):
    report = diagnose(teacher, student, (x, y), verbose=0)
    return {f.name: f.severity for f in report.findings if f.severity != "note"}


def data(noise=0.0, count=512, classes=2):
    """Standardised features, and what a linear teacher says of them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 6)).astype("float32")
    kernel = rng.normal(size=(6, classes)).astype("float32")
    kernel -= kernel.mean(-1, keepdims=True)
    y = (x @ kernel).argmax(-1)
    wrong = rng.random(count) < noise
    return x, np.where(wrong, rng.permutation(y), y), kernel


def linear(kernel, *first):
    model = keras.Sequential(
        [keras.Input((6,)), *first, layers.Dense(kernel.shape[1], use_bias=False)]
    )
    model.layers[-1].set_weights([kernel])
    return model


def student(classes=2):
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((6,)), layers.Dense(classes)])


@pytest.mark.parametrize("seed", range(3))
def test_an_untrained_teacher_on_large_inputs_is_at_chance(seed):
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 16, (512, 6)).astype("float32")
    y = rng.integers(0, 10, 512)
    teacher = linear(rng.normal(size=(6, 10)))
    assert told(teacher, student(10), x, y) == {"chance_teacher": "error"}


@pytest.mark.parametrize("size", [1, 10])
@pytest.mark.parametrize("noise", [0.1, 0.4])
def test_a_teacher_that_is_too_sure_of_its_answers_is_no_fault_of_the_scale(
    noise, size
):
    x, y, kernel = data(noise)
    assert told(linear(size * kernel), student(), x, y) == {}


def test_features_standardised_twice():
    x, y, kernel = data(classes=4)
    normal = layers.Normalization(mean=5 * SCALES, variance=SCALES**2)
    teacher = linear(5 * kernel, normal)
    raw = (x * SCALES + 5 * SCALES).astype("float32")
    assert "inputs_scaled" not in told(teacher, student(4), raw, y)
    assert told(teacher, student(4), x, y)["inputs_scaled"] == "error"


def test_inputs_by_name_are_scaled_together():
    x, y, kernel = data(classes=4)

    def model(kernel):
        inputs = {name: keras.Input((3,), name=name) for name in "ab"}
        parts = [layers.Rescaling(1 / 255)(one) for one in inputs.values()]
        last = layers.Dense(4, use_bias=False)
        made = keras.Model(inputs, last(layers.Concatenate()(parts)))
        last.set_weights([kernel])
        return made

    def named(x):
        return {"a": x[:, :3], "b": x[:, 3:]}

    pair = model(5 * kernel), model(kernel)
    assert told(*pair, named(255 * x), y) == {}
    assert told(*pair, named(x), y) == {"inputs_scaled": "error"}
