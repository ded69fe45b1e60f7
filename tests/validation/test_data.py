"""Inputs beside the training data: of another shape, not finite, of another scale."""

import warnings
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.core.issue import report_issues
from keras_dtkd.losses import KD
from keras_dtkd.preparation.data_peek import Sample
from keras_dtkd.preparation.measure import check_auxiliary_inputs
from tests.tiny_models import FEATURES, data, sequence, student, teacher

X, Y = data(40)
SAMPLE = Sample(X, Y, 8)


def report(x, sample=SAMPLE, **models):
    context = SimpleNamespace(sample=sample, inputs=sample.x)
    report_issues(check_auxiliary_inputs("Policy", "the exam", x, context, models))


def draw(name, size, seed):
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
def test_inputs_of_the_same_distribution_do_not_warn(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for seed in range(20):
            known, other = draw(name, (64, 6), seed), draw(name, (20, 6), 99 - seed)
            report(other, Sample(known, None, 32))


@pytest.mark.parametrize("factor", [16, 255, 1 / 255])
def test_inputs_of_another_scale_warn_with_both_magnitudes(factor):
    known, other = draw("pixels", (64, 6), 0), draw("pixels", (20, 6), 1) * factor
    message = f"inputs of the exam have a mean size of {other.mean():.3g}.* of 0.5"
    with pytest.warns(UserWarning, match=message):
        report(other, Sample(known, None, 32))
    with pytest.warns(UserWarning, match="inputs 'b' of the exam"):
        report({"a": X[:20], "b": other}, Sample({"a": X, "b": known[:40]}, None, 32))


def test_unscaled_pixels_warn_and_token_ids_do_not():
    known = draw("pixels", (64, 6), 0)
    with pytest.warns(UserWarning, match="scaled as the models expect"):
        report((255 * known).astype("uint8"), Sample(known, None, 32))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        report(np.full((8, 5), 900), Sample(np.full((8, 5), 3), None, 8))


def test_a_shape_that_a_model_cannot_take_is_named_with_the_model():
    with pytest.raises(
        ValueError,
        match=r"the student cannot take the inputs of the exam: samples of shape "
        r"\(2, 3\). Those trained on are samples of shape \(6,\). Keras raised:",
    ):
        report(X.reshape(-1, 2, 3), student=student())
    with pytest.raises(ValueError, match=r"samples of shape 'a': \(6,\). Those"):
        report({"a": X}, Sample({"a": X[:, :3]}, None, 8), student=student())


def test_another_shape_that_a_model_can_take_is_no_issue():
    # Keras drops the last axis by itself; lengths of sequences differ.
    report(X[..., None], student=student())
    report(np.ones((9, 7), int), Sample(np.ones((9, 5), int), None, 8), a=sequence())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_input_that_is_not_finite_is_found_among_all(value):
    x = X.copy()
    x[37, 2] = value
    with pytest.raises(ValueError, match="1 of 40 inputs of the exam hold NaN or inf"):
        report(x, student=student())


@pytest.mark.parametrize("form", ["one", "two"])
def test_one_nan_among_many_samples_is_found(form):
    """Not among the samples that are spread over all."""
    x, y = data(1000)
    x[340, 2] = np.nan
    pair = teacher(), student()
    if form == "two":
        x = {"a": np.ones_like(x), "b": x}
        pair = [with_two_inputs(model) for model in pair]
    with pytest.raises(ValueError, match=r"NaN.*1 of 64 samples checked"):
        Distiller(*pair, KD()).fit(x, y, verbose=0)


def with_two_inputs(model):
    inputs = {name: keras.Input(model.input_shape[1:], name=name) for name in "ab"}
    return keras.Model(inputs, model(inputs["a"] + inputs["b"]))


def test_nan_inputs_with_finite_outputs_warn():
    clean = keras.layers.Lambda(lambda v: keras.ops.where(v == v, v, 0.0))
    model = keras.Sequential([keras.Input((FEATURES,)), clean, student()])
    x = X.copy()
    x[0] = np.nan
    with pytest.warns(UserWarning, match="1 of 40 inputs of the exam .* finite all"):
        report(x, student=model)
