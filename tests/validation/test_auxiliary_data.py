"""Samples beside those trained on: of another form, not finite, on another scale."""

import warnings

import keras
import numpy as np
import pytest

from keras_dtkd.preparation.data_peek import Sample
from keras_dtkd.validation import auxiliary_data
from tests.tiny_models import FEATURES, data, sequence, student

X, Y = data(40)
COURSE = Sample(X, Y, 8)


def look(x, course=COURSE, **models):
    auxiliary_data.validate_auxiliary_inputs("Policy", "the exam", x, course, models)


def drawn(name, size, seed):
    random = np.random.default_rng(seed)
    return {
        "normal": lambda: random.normal(size=size),
        "pixels": lambda: random.uniform(size=size),
        "long tail": lambda: random.lognormal(0.0, 2.0, size),
        "two heaps": lambda: random.choice([0.01, 1.0], size),
        "mostly zero": lambda: random.uniform(size=size) * (random.random(size) < 0.05),
        "columns": lambda: random.normal(size=size) * 10.0 ** np.arange(size[1]),
        "zeros": lambda: np.zeros(size),
    }[name]()


@pytest.mark.parametrize(
    "name",
    ["normal", "pixels", "long tail", "two heaps", "mostly zero", "columns", "zeros"],
)
def test_two_samples_of_the_same_data_are_no_warning(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for seed in range(20):
            course, other = drawn(name, (64, 6), seed), drawn(name, (20, 6), 99 - seed)
            look(other, Sample(course, None, 32))


@pytest.mark.parametrize("factor", [16, 255, 1 / 255])
def test_another_scale_is_a_warning_with_both_sizes(factor):
    course, other = drawn("pixels", (64, 6), 0), drawn("pixels", (20, 6), 1) * factor
    message = f"inputs of the exam have a mean size of {other.mean():.3g}.* of 0.5"
    with pytest.warns(UserWarning, match=message):
        look(other, Sample(course, None, 32))
    with pytest.warns(UserWarning, match="inputs 'b' of the exam"):
        look({"a": X[:20], "b": other}, Sample({"a": X, "b": course[:40]}, None, 32))


def test_pixels_beside_their_shares_are_a_warning_and_words_are_not():
    course = drawn("pixels", (64, 6), 0)
    with pytest.warns(UserWarning, match="scaled as the models expect"):
        look((255 * course).astype("uint8"), Sample(course, None, 32))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        look(np.full((8, 5), 900), Sample(np.full((8, 5), 3), None, 8))


def test_a_form_that_a_model_cannot_take_is_named_with_the_model():
    with pytest.raises(
        ValueError,
        match=r"the student cannot take the inputs of the exam: samples of shape "
        r"\(2, 3\). Those trained on are samples of shape \(6,\). Keras says:",
    ):
        look(X.reshape(-1, 2, 3), student=student())
    with pytest.raises(ValueError, match=r"samples of shape 'a': \(6,\). Those"):
        look({"a": X}, Sample({"a": X[:, :3]}, None, 8), student=student())


def test_a_form_that_a_model_can_take_is_none():
    # Keras drops the last axis by itself; lengths of sequences differ.
    look(X[..., None], student=student())
    look(np.ones((9, 7), int), Sample(np.ones((9, 5), int), None, 8), a=sequence())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_sample_that_is_not_finite_is_found_among_all(value):
    x = X.copy()
    x[37, 2] = value
    with pytest.raises(ValueError, match="1 of 40 inputs of the exam hold NaN or inf"):
        look(x, student=student())


def test_nan_that_models_bear_is_a_warning():
    clean = keras.layers.Lambda(lambda v: keras.ops.where(v == v, v, 0.0))
    model = keras.Sequential([keras.Input((FEATURES,)), clean, student()])
    x = X.copy()
    x[0] = np.nan
    with pytest.warns(UserWarning, match="1 of 40 inputs of the exam .* finite all"):
        look(x, student=model)
