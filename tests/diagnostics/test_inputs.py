"""How inputs arrive behind the first layers."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_dtkd.diagnostics.input_ranges import figures, findings
from keras_dtkd.diagnostics.looking import distiller
from keras_dtkd.diagnostics.samples import gather

X = np.linspace(0, 255, 64 * 4).reshape(64, 2, 2).astype("float32")


def model(*first):
    inputs = keras.Input((2, 2))
    return keras.Sequential([inputs, *first, layers.Flatten(), layers.Dense(3)])


def functional(*first):
    inputs = outputs = keras.Input((2, 2))
    for layer in first:
        outputs = layer(outputs)
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(outputs)))


def rescaling(scale=1 / 255, offset=0.0):
    return layers.Rescaling(scale, offset)


def look(teacher, student, x=X):
    made = distiller(teacher, student, None, "auto", None, None)
    return figures(made, gather((x,), 1))


def told(*args, known=()):
    return {f.name: f.severity for f in findings(look(*args), known)}


def test_scaling_layers_are_followed_at_any_depth():
    nested = keras.Sequential([keras.Input((2, 2)), rescaling()])
    normal = layers.Normalization(axis=None, mean=0.5, variance=0.25)
    found = look(functional(nested, normal), model(rescaling(2 / 255, -1.0)))
    for role in ("teacher", "student"):
        assert np.isclose(found[role]["min"], -1) and np.isclose(found[role]["max"], 1)
    assert found["given"]["max"] == 255


def test_ranges_as_they_should_be_are_no_finding():
    assert told(model(rescaling()), model(rescaling(2 / 255, -1.0))) == {}


def test_a_student_without_the_teachers_scaling_is_warned_of():
    assert told(model(rescaling()), model()) == {"input_ranges": "warning"}
    assert told(model(rescaling()), model(), known=["student"]) == {
        "input_ranges": "note"
    }
    # A teacher may want it so.
    assert told(model(), model(rescaling())) == {"input_ranges": "note"}


class Own(keras.Model):
    """Scales in its own code."""

    def __init__(self, norm=False):
        super().__init__()
        self.norm = layers.LayerNormalization() if norm else None
        self.parts = {"flat": layers.Flatten(), "last": layers.Dense(3)}

    def call(self, x):
        x = self.norm(x) if self.norm else x / 255.0
        return self.parts["last"](self.parts["flat"](x))


@pytest.mark.parametrize(
    "student",
    [
        lambda: model(layers.BatchNormalization()),
        lambda: model(layers.GaussianNoise(0.9), layers.Permute((2, 1)), rescaling()),
        lambda: functional(lambda x: x / 255.0),
        lambda: functional(functional(rescaling())),
        Own,
        lambda: Own(norm=True),
    ],
    ids=["batch norm", "augmented", "operation", "nested", "own code", "own norm"],
)
def test_however_a_student_scales_its_inputs_it_is_right(student):
    made = student()
    made(X[:1])
    before = [dict(vars(layer)) for layer in made.layers]
    assert told(model(rescaling()), made) == {}
    assert [dict(vars(layer)) for layer in made.layers] == before


def test_inputs_made_large_on_purpose_are_right():
    student = model(rescaling(255.0))
    assert told(model(), student, X / 255) == {"input_ranges": "note"}


def test_inputs_scaled_twice_or_not_enough():
    pair = model(rescaling()), model(rescaling())
    assert told(*pair, X / 255) == {"inputs_scaled": "warning"}
    assert told(*pair, X * 255) == {"inputs_scaled": "warning"}
    assert told(*pair, X / 255, known=["teacher", "student"]) == {}
    pair = model(rescaling(2 / 255, -1.0)), model(rescaling(2 / 255, -1.0))
    assert told(*pair, X / 127.5 - 1) == {"inputs_scaled": "warning"}


def test_tokens_have_no_range_to_speak_of():
    tokens = keras.Sequential([keras.Input((4,)), layers.Embedding(9, 3)])
    found = look(tokens, tokens.__class__.from_config(tokens.get_config()), X[:, 0] * 0)
    assert found["teacher"] == found["given"]
    assert findings(found, ()) == []
