"""The output kind from layers, values, the loss and `from_logits`."""

import json

import keras
import numpy as np
import pytest

from keras_dtkd.core import logits
from keras_dtkd.core.output_kind import resolve_output_kind

SOFTMAX = np.full((4, 3), 1 / 3, "float32")
UNIT_RANGE = np.full((4, 3), 0.9, "float32")
UNBOUNDED = np.full((4, 3), -2.0, "float32")


def model(activation=None):
    return keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(3, activation=activation)]
    )


class Unreadable(keras.Model):
    """A model of a class of its own, whose layers say nothing of its output."""


def resolve(model, values=None, from_logits="auto", loss=None, num_outputs=3):
    def evaluate():
        assert values is not None, "the values were evaluated"
        return values

    return resolve_output_kind(
        "Caller", "model", model, None, from_logits, loss, num_outputs, evaluate
    )


@pytest.mark.parametrize(
    "activation, kind", [(None, "logits"), ("softmax", "softmax"), ("sigmoid",) * 2]
)
def test_layers_decide_without_evaluating_the_model(activation, kind):
    assert resolve(model(activation)) == kind


@pytest.mark.parametrize(
    "values, from_logits, loss, kind",
    [
        (SOFTMAX, "auto", None, "softmax"),
        (UNIT_RANGE, "auto", None, "sigmoid"),
        (UNBOUNDED, "auto", None, "logits"),
        (UNIT_RANGE, "auto", keras.losses.BinaryCrossentropy(), "sigmoid"),
        (UNIT_RANGE, "auto", keras.losses.MeanSquaredError(), "sigmoid"),
        (UNIT_RANGE, True, None, "logits"),
        (UNIT_RANGE, False, None, "sigmoid"),
        (SOFTMAX, False, None, "softmax"),
    ],
)
def test_values_decide_where_layers_are_unknown(values, from_logits, loss, kind):
    assert resolve(Unreadable(), values, from_logits, loss) == kind


def test_values_between_0_and_1_of_a_bare_teacher_are_no_sigmoid():
    assert resolve(None, UNIT_RANGE) == "logits"
    assert resolve(None, SOFTMAX) == "softmax"
    assert resolve(None, UNIT_RANGE, from_logits=False) == "sigmoid"


def test_values_of_readable_layers_are_a_sigmoid_only_by_the_loss():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(3, activation="relu")(inputs))
    assert resolve(model, UNIT_RANGE) == "logits"
    assert resolve(model, UNIT_RANGE, loss="categorical_crossentropy") == "sigmoid"


def test_a_single_logit_and_logits_of_a_binary_loss_are_binary_logits():
    assert resolve(model(), num_outputs=1) == "binary logits"
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    assert resolve(model(), loss=loss) == "binary logits"


@pytest.mark.parametrize(
    "match, arguments",
    [
        ("must be one of True, False, 'auto'", (model(), None, "perhaps")),
        ("`from_logits=True`, but the model gives", (model("softmax"), None, True)),
        ("`from_logits=True`, but the model gives", (None, SOFTMAX, True)),
        ("gives values from -2 to -2", (None, UNBOUNDED, False)),
        ("gives values from -2 to -2", (model(), UNBOUNDED, False)),
    ],
)
def test_a_contradicting_from_logits_is_refused(match, arguments):
    with pytest.raises(ValueError, match=f"`Caller`: .*{match}"):
        resolve(*arguments)


@pytest.mark.parametrize("kind", ["probabilities", None, "Softmax"])
def test_an_unknown_output_kind_is_refused_with_the_known_ones(kind):
    with pytest.raises(ValueError, match="'logits', 'softmax', 'sigmoid', 'binary"):
        logits.OutputKind(kind)


def test_an_output_kind_is_its_name_in_json():
    assert json.dumps(logits.OutputKind.SOFTMAX) == '"softmax"'
