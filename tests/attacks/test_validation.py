"""Invalid arguments are clear errors before the first step."""

import importlib

import keras
import numpy as np
import pytest

from keras_dtkd.attacks import di2_fgsm, fgsm, pgd, robust_accuracy
from tests.attacks.oracle import FEATURES, inputs, network

X, Y = inputs(8)


@pytest.fixture(autouse=True)
def no_step(monkeypatch):
    def run_attack(*_):
        raise AssertionError("a step was taken")

    # `keras_dtkd.attacks.pgd` is the function.
    module = importlib.import_module("keras_dtkd.attacks.pgd")
    monkeypatch.setattr(module, "run_attack", run_attack)


def assert_refused(match, attack=pgd, model=None, x=X, y=Y, epsilon=0.1, **options):
    with pytest.raises(ValueError, match=match) as error:
        attack(model or network(), x, y, epsilon, **options)
    assert str(error.value).startswith(f"`{attack.__name__}`: ")


@pytest.mark.parametrize("attack", [fgsm, pgd, di2_fgsm])
def test_integer_inputs_are_refused_with_both_conversions(attack):
    pixels = (255 * X).astype("uint8")
    assert_refused(r"uint8.*/ 255.*range=\(0, 255\)", attack, x=pixels)


def model_with_integer_inputs():
    inputs = keras.Input((FEATURES,), dtype="uint8")
    scaled = keras.layers.Rescaling(1 / 255)(inputs)
    return keras.Model(inputs, keras.layers.Dense(4)(scaled))


@pytest.mark.parametrize("attack", [fgsm, pgd, di2_fgsm])
def test_a_model_with_integer_inputs_is_refused(attack):
    match = "the model takes inputs of uint8.*takes floats"
    options = {"diversity": 0} if attack is di2_fgsm else {}
    assert_refused(match, attack, model_with_integer_inputs(), **options)
    with pytest.raises(ValueError, match=match):
        robust_accuracy(
            model_with_integer_inputs(), X, Y, 0.1, attack=attack, **options
        )


def test_a_custom_attack_needs_no_gradients():
    model = model_with_integer_inputs()
    result = robust_accuracy(model, X, Y, 0.1, attack=lambda m, x, y, e: x)
    assert result.robust_accuracy == result.clean_accuracy


def test_inputs_outside_of_range_are_refused():
    assert_refused("from 0 to 255, outside of `range", x=255 * X)
    assert_refused("outside of `range", x=X - 1, range=(np.full(6, -0.5), np.ones(6)))
    assert_refused("outside of `range", x=X, range=(0, np.array([1, 1, 1, 1, 1, 0.5])))


@pytest.mark.parametrize(
    "bounds", [(0,), 1.0, "a", (0, np.ones(5)), (np.ones((2, 6)), 1)]
)
def test_an_invalid_range_is_refused(bounds):
    assert_refused("`range` must be", range=bounds)


def test_a_reversed_range_is_refused():
    assert_refused("lower bound of `range` must be below", range=(1, 0))


@pytest.mark.parametrize("epsilon", [0, -0.1, np.nan, np.inf, "8/255", None, [0.1, 0]])
def test_an_invalid_radius_is_refused(epsilon):
    assert_refused("`epsilon` must be a number", epsilon=epsilon)
    if epsilon is not None:
        assert_refused("`step_size` must be a number", step_size=epsilon)


def test_an_l2_radius_must_be_a_scalar():
    assert_refused("`epsilon` must be a number, above", epsilon=np.ones(6), norm="l2")


@pytest.mark.parametrize(
    "match, options",
    [
        ("`norm` must be one of 'linf', 'l2'", {"norm": "l1"}),
        ("`steps` must be an integer", {"steps": 0}),
        ("`steps` must be an integer", {"steps": 2.5}),
        ("`restarts` must be an integer", {"restarts": 0}),
        ("`batch_size` must be an integer", {"batch_size": 0}),
        ("`momentum` must be a finite number of at least 0", {"momentum": -1.0}),
        ("`diversity` must be a finite number from 0 to 1", {"diversity": 1.5}),
        (r"resizes images.*\(8, 6\)", {"diversity": 0.5}),
        ("all 3 starts are the same", {"restarts": 3, "random_start": False}),
        ("`from_logits=False`, but the model gives values", {"from_logits": False}),
        ("`from_logits` must be", {"from_logits": "perhaps"}),
    ],
)
def test_an_invalid_option_is_refused(match, options):
    assert_refused(match, **options)


def test_from_logits_true_refuses_probabilities():
    assert_refused("gives probabilities", model=network("softmax"), from_logits=True)


@pytest.mark.parametrize(
    "match, y",
    [
        ("labels from 0 to 4.*classes 0 to 3", np.arange(8) % 5),
        ("labels from -1 to", np.arange(8) % 4 - 1),
        ("labels from 0.5 to 0.5", np.full(8, 0.5)),
        (r"shape \(7,\) do not fit 8 inputs", np.zeros(7, int)),
        (r"shape \(8, 3\) do not fit.*one-hot labels of 4", np.zeros((8, 3))),
        ("name several classes", np.full((8, 4), 0.25)),
        ("For soft labels, `y.argmax", 0.2 + 0.2 * np.eye(4)[np.arange(8) % 4]),
        ("'cat' are not numbers", np.array(["cat"] * 8)),
    ],
)
def test_invalid_labels_are_refused(match, y):
    assert_refused(match, y=y)


def test_several_sigmoids_need_one_label_each():
    model = network("sigmoid")
    assert_refused(r"Give 0 or 1 for each output, \(8, 4\)", model=model)
    assert_refused("classes 0 to 1", model=model, y=np.full((8, 4), 2))


@pytest.mark.parametrize("x", [{"x": X}, [X, X], (X,)])
def test_several_inputs_are_refused(x):
    assert_refused("attacks perturb one array", x=x)


@pytest.mark.parametrize(
    "x", [np.zeros((0, 6), "float32"), np.zeros(6, "float32"), X * np.nan]
)
def test_empty_flat_and_nan_inputs_are_refused(x):
    assert_refused("`x` must be", x=x)


def test_a_function_or_an_unbuilt_model_is_refused():
    assert_refused("must be a built Keras model", model=lambda x: x)
    assert_refused(
        "call it on a batch", model=keras.Sequential([keras.layers.Dense(4)])
    )


def test_per_position_outputs_are_refused():
    model = keras.Sequential(
        [keras.Input((5, FEATURES)), keras.layers.Dense(3), keras.layers.ReLU()]
    )
    assert_refused(
        r"the shape \(8, 5, 3\)",
        model=model,
        x=np.zeros((8, 5, FEATURES), "float32"),
        y=np.zeros((8, 5), int),
    )


def test_robust_accuracy_validates_the_options_even_without_correct_samples():
    y = network().predict(X, verbose=0).argmin(-1)
    for options in ({"steps": 0}, {"range": (0, 0.5)}, {"norm": "l1"}):
        with pytest.raises(ValueError, match="`pgd`: "):
            robust_accuracy(network(), X, y, 0.1, **options)
    with pytest.raises(
        TypeError, match="`pgd` has no option `stepps`.*`steps`, `step_size`"
    ):
        robust_accuracy(network(), X, y, 0.1, stepps=3)
    with pytest.raises(
        TypeError, match=r"`fgsm` has no option `restarts`.*`norm`, `range`\."
    ):
        robust_accuracy(network(), X, y, 0.1, attack=fgsm, restarts=3)


@pytest.mark.parametrize("attack", ["PGD", None])
def test_an_unknown_attack_is_refused(attack):
    with pytest.raises(ValueError, match="must be one of 'pgd', 'fgsm', 'di2_fgsm'"):
        robust_accuracy(network(), X, Y, 0.1, attack=attack)


def test_robust_accuracy_refuses_targeted_attacks():
    assert_refused("accuracy needs labels, not targets", robust_accuracy, targeted=True)
