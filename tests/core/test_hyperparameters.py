"""A hyperparameter is a number outside and a variable inside a compiled step."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd.core.hyperparameters import Hyperparameter, HyperparameterMixin
from keras_dtkd.losses import DTKD, KD
from tests import oracles
from tests.logit_cases import assert_close, draw


class Dial(HyperparameterMixin, keras.layers.Layer):
    """Multiplies by a positive number."""

    factor = Hyperparameter(greater_than=0.0)
    offset = Hyperparameter(minimum=-1.0)

    def __init__(self, factor=1.0, offset=0.0, **kwargs):
        super().__init__(**kwargs)
        self.factor, self.offset = factor, offset
        self.built = True

    def call(self, inputs):
        return self.hyperparameter("factor") * inputs + self.hyperparameter("offset")


class Holder(keras.Model):
    """Computes with a layer's hyperparameters, and counts how often it is traced."""

    def __init__(self, layer, traces=None):
        super().__init__()
        self.layer = layer
        # Keras would track a list.
        self.traced = (traces if traces is not None else []).append

    def call(self, inputs):
        self.traced(1)
        if isinstance(self.layer, Dial):
            return self.layer(inputs)
        return (
            self.layer(inputs, ops.flip(inputs, axis=-1)) * self.layer.effective_weight
        )


def answer(model, x):
    return np.asarray(model.predict_on_batch(x), "float64")


def test_it_is_a_number_outside_and_a_variable_inside():
    dial = Dial(factor=3)
    assert dial.factor == 3.0 and type(dial.factor) is float
    assert isinstance(dial.hyperparameter("factor"), keras.Variable)
    assert not dial.hyperparameter("factor").trainable
    dial.factor = 5
    assert dial.factor == 5.0
    assert float(dial.hyperparameter("factor")) == 5.0


def test_two_layers_do_not_share_a_hyperparameter():
    first, second = Dial(2.0), Dial(3.0)
    first.factor = 7.0
    assert (first.factor, second.factor) == (7.0, 3.0)


@pytest.mark.invariant(number=7)
def test_a_new_number_takes_effect_without_recompiling():
    traces = []
    model = Holder(Dial(2.0), traces)
    x = np.ones((3, 4), "float32")
    assert (answer(model, x) == 2.0).all()
    traced = len(traces)
    for factor, offset in ((5.0, 0.0), (0.25, -0.5), (8.0, 1.0)):
        model.layer.factor, model.layer.offset = factor, offset
        assert (answer(model, x) == factor + offset).all()
    if keras.backend.backend() != "torch":
        # Torch compiles nothing here.
        assert len(traces) == traced


@pytest.mark.invariant(number=7)
def test_a_changed_hyperparameter_takes_effect_without_recompiling():
    traces, loss = [], DTKD(rule="std")
    model = Holder(loss, traces)
    z = draw((8, 100)).student
    now = {"alpha": 3.0, "beta": 1.0, "tau": 4.0}
    scale = 1.0

    def assert_answer_follows():
        expected = scale * oracles.dtkd(z, z[:, ::-1], rule="std", **now)
        assert_close(answer(model, z.astype("float32")), expected, 1e-5, expected)

    assert_answer_follows()
    traced = len(traces)
    for attribute, key, value in (
        ("alpha", "alpha", 0.5),
        ("beta", "beta", 3.0),
        ("temperature", "tau", 2.0),
    ):
        setattr(loss, attribute, value)
        now[key] = value
        assert_answer_follows()
    loss.weight, scale = 0.5, 0.5
    assert_answer_follows()
    # The first epoch of a warm-up of 20.
    loss.on_epoch_begin(1, 240)
    scale = 0.5 / 20
    assert_answer_follows()
    if keras.backend.backend() != "torch":
        assert len(traces) == traced


def test_numbers_come_back_with_the_weights(tmp_path):
    saved = Holder(KD(temperature=2.0, weight=0.1))
    loaded = Holder(KD())
    x = draw((8, 100)).student.astype("float32")
    expected = answer(saved, x)
    assert not np.allclose(answer(loaded, x), expected)
    saved.save_weights(tmp_path / "numbers.weights.h5")
    loaded.load_weights(tmp_path / "numbers.weights.h5")
    assert (loaded.layer.weight, float(loaded.layer.temperature)) == (0.1, 2.0)
    # Nor does the next epoch bring back the old ones.
    loaded.layer.on_epoch_begin(1, 10)
    assert np.array_equal(answer(loaded, x), expected)


def test_a_number_stays_what_was_given_whatever_float32_makes_of_it():
    dial = Dial(0.1, 0.123456789)
    dial.pull_hyperparameters()
    assert (dial.factor, dial.offset) == (0.1, 0.123456789)
    dial.hyperparameter("factor").assign(0.3)
    dial.pull_hyperparameters()
    assert (dial.factor, dial.offset) == (0.3, 0.123456789)


def test_refreshing_writes_the_numbers_into_the_variables():
    dial = Dial(2.0, 0.5)
    dial.hyperparameter("factor").assign(9.0)
    dial.hyperparameter("offset").assign(9.0)
    dial.push_hyperparameters()
    assert float(dial.hyperparameter("factor")) == 2.0
    assert float(dial.hyperparameter("offset")) == 0.5


def test_a_hyperparameter_that_was_never_set_is_no_attribute():
    class Unset(HyperparameterMixin, keras.layers.Layer):
        size = Hyperparameter()

    assert not hasattr(Unset(), "size")
    with pytest.raises(AttributeError, match="size"):
        Unset().size  # noqa: B018


@pytest.mark.parametrize(
    "name, value, rule",
    [
        ("factor", 0.0, "a number above 0.0"),
        ("factor", -2, "a number above 0.0"),
        ("factor", float("nan"), "a number above 0.0"),
        ("factor", None, "a number above 0.0"),
        ("offset", -1.5, "a number of at least -1.0"),
        ("offset", float("inf"), "a number of at least -1.0"),
        ("offset", "far", "a number of at least -1.0"),
    ],
)
def test_a_wrong_number_is_refused_and_changes_nothing(name, value, rule):
    dial = Dial(2.0, 0.5)
    with pytest.raises(ValueError) as error:
        setattr(dial, name, value)
    message = str(error.value)
    assert f"`Dial`: `{name}` must be {rule}" in message
    assert f"Received: {name}={value!r}" in message
    assert (dial.factor, dial.offset) == (2.0, 0.5)
    assert float(dial.hyperparameter(name)) == getattr(dial, name)


def test_a_limit_itself_is_allowed_where_it_is_a_minimum():
    assert Dial(offset=-1.0).offset == -1.0
