"""What does not fit is said before the first step: who, what, what to do."""

import keras
import numpy as np
import pytest

from keras_dtkd.attacks import di2_fgsm, fgsm, pgd, robust_accuracy
from tests.attacks.oracle import FEATURES, inputs, network

X, Y = inputs(8)


@pytest.fixture(autouse=True)
def no_step(monkeypatch):
    def climb(*_):
        raise AssertionError("a step was taken")

    monkeypatch.setattr("keras_dtkd.attacks.search.climb", climb)


def refuses(match, attack=pgd, model=None, x=X, y=Y, epsilon=0.1, **options):
    with pytest.raises(ValueError, match=match) as error:
        attack(model or network(), x, y, epsilon, **options)
    assert str(error.value).startswith(f"`{attack.__name__}`: ")


@pytest.mark.parametrize("attack", [fgsm, pgd, di2_fgsm])
def test_integers_are_refused_with_the_two_ways_to_cast_them(attack):
    pixels = (255 * X).astype("uint8")
    refuses(r"uint8.*/ 255.*range=\(0, 255\)", attack, x=pixels)


def of_integers():
    inputs = keras.Input((FEATURES,), dtype="uint8")
    scaled = keras.layers.Rescaling(1 / 255)(inputs)
    return keras.Model(inputs, keras.layers.Dense(4)(scaled))


@pytest.mark.parametrize("attack", [fgsm, pgd, di2_fgsm])
def test_a_model_that_casts_its_inputs_to_integers_is_refused(attack):
    match = "the model takes inputs of uint8.*takes floats"
    options = {"diversity": 0} if attack is di2_fgsm else {}
    refuses(match, attack, of_integers(), **options)
    with pytest.raises(ValueError, match=match):
        robust_accuracy(of_integers(), X, Y, 0.1, attack=attack, **options)


def test_an_attack_of_ones_own_may_do_without_gradients():
    found = robust_accuracy(of_integers(), X, Y, 0.1, attack=lambda m, x, y, e: x)
    assert found.robust == found.clean


def test_inputs_outside_of_the_range_are_refused():
    refuses("from 0 to 255, outside of `range", x=255 * X)
    refuses("outside of `range", x=X - 1, range=(np.full(6, -0.5), np.ones(6)))
    refuses("outside of `range", x=X, range=(0, np.array([1, 1, 1, 1, 1, 0.5])))


@pytest.mark.parametrize(
    "bounds", [(0,), 1.0, "a", (0, np.ones(5)), (np.ones((2, 6)), 1)]
)
def test_a_range_that_is_none_is_refused(bounds):
    refuses("`range` must be", range=bounds)


def test_a_range_upside_down_is_refused():
    refuses("begin below its end", range=(1, 0))


@pytest.mark.parametrize("epsilon", [0, -0.1, np.nan, np.inf, "8/255", None, [0.1, 0]])
def test_a_radius_that_is_none_is_refused(epsilon):
    refuses("`epsilon` must be a number", epsilon=epsilon)
    if epsilon is not None:
        refuses("`step_size` must be a number", step_size=epsilon)


def test_a_euclidean_radius_is_one_number():
    refuses("`epsilon` must be a number, above", epsilon=np.ones(6), norm="l2")


@pytest.mark.parametrize(
    "match, options",
    [
        ("`norm` must be 'linf' or 'l2'", {"norm": "l1"}),
        ("`steps` must be an integer", {"steps": 0}),
        ("`steps` must be an integer", {"steps": 2.5}),
        ("`restarts` must be an integer", {"restarts": 0}),
        ("`batch_size` must be an integer", {"batch_size": 0}),
        ("`momentum` must not", {"momentum": -1.0}),
        ("`diversity` is a probability", {"diversity": 1.5}),
        (r"resizes images.*\(8, 6\)", {"diversity": 0.5}),
        ("all 3 starts are the same", {"restarts": 3, "random_start": False}),
        ("`from_logits=False`, but the model gives values", {"from_logits": False}),
        ("`from_logits` must be", {"from_logits": "perhaps"}),
    ],
)
def test_an_option_out_of_place_is_refused(match, options):
    refuses(match, **options)


def test_probabilities_for_logits_are_refused():
    refuses("gives probabilities", model=network("softmax"), from_logits=True)


@pytest.mark.parametrize(
    "match, y",
    [
        ("labels from 0 to 4.*classes 0 to 3", np.arange(8) % 5),
        ("labels from -1 to", np.arange(8) % 4 - 1),
        ("labels from 0.5 to 0.5", np.full(8, 0.5)),
        (r"shape \(7,\) do not fit 8 inputs", np.zeros(7, int)),
        (r"shape \(8, 3\) do not fit.*one-hot rows of 4", np.zeros((8, 3))),
        ("name several classes", np.full((8, 4), 0.25)),
        ("Of soft labels `y.argmax", 0.2 + 0.2 * np.eye(4)[np.arange(8) % 4]),
        ("'cat' are no numbers", np.array(["cat"] * 8)),
    ],
)
def test_labels_that_do_not_fit_are_refused(match, y):
    refuses(match, y=y)


def test_labels_of_several_sigmoids_are_one_for_each():
    model = network("sigmoid")
    refuses(r"Give 0 or 1 for each output, \(8, 4\)", model=model)
    refuses("classes 0 to 1", model=model, y=np.full((8, 4), 2))


@pytest.mark.parametrize("x", [{"x": X}, [X, X], (X,)])
def test_several_inputs_are_refused(x):
    refuses("one array is attacked at a time", x=x)


@pytest.mark.parametrize(
    "x", [np.zeros((0, 6), "float32"), np.zeros(6, "float32"), X * np.nan]
)
def test_inputs_that_are_none_are_refused(x):
    refuses("`x` must be", x=x)


def test_a_model_that_is_none_or_not_built_is_refused():
    refuses("must be a built Keras model", model=lambda x: x)
    refuses("call it on a batch", model=keras.Sequential([keras.layers.Dense(4)]))


def test_a_choice_for_each_position_is_refused():
    model = keras.Sequential(
        [keras.Input((5, FEATURES)), keras.layers.Dense(3), keras.layers.ReLU()]
    )
    refuses(
        r"the shape \(8, 5, 3\)",
        model=model,
        x=np.zeros((8, 5, FEATURES), "float32"),
        y=np.zeros((8, 5), int),
    )


def test_a_robust_accuracy_refuses_what_its_attack_refuses_even_if_none_is_right():
    y = network().predict(X, verbose=0).argmin(-1)
    for options in ({"steps": 0}, {"range": (0, 0.5)}, {"norm": "l1"}):
        with pytest.raises(ValueError, match="`pgd`: "):
            robust_accuracy(network(), X, y, 0.1, **options)
    with pytest.raises(
        TypeError, match="`pgd` takes no `stepps`.*`steps`, `step_size`"
    ):
        robust_accuracy(network(), X, y, 0.1, stepps=3)
    with pytest.raises(
        TypeError, match=r"`fgsm` takes no `restarts`.*`norm`, `range`\."
    ):
        robust_accuracy(network(), X, y, 0.1, attack=fgsm, restarts=3)


@pytest.mark.parametrize("attack", ["PGD", None])
def test_an_attack_of_an_unknown_name_is_refused(attack):
    with pytest.raises(ValueError, match="must be one of 'pgd', 'fgsm', 'di2_fgsm'"):
        robust_accuracy(network(), X, Y, 0.1, attack=attack)


def test_an_accuracy_has_no_target():
    refuses("a target is no label", robust_accuracy, targeted=True)
