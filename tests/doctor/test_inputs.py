"""How inputs arrive behind the first layers."""

import keras
import numpy as np
from keras import layers

from keras_dtkd.doctor.inputs import figures, findings
from keras_dtkd.doctor.looking import distiller
from keras_dtkd.doctor.samples import gather

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
    assert found["given"]["max"] == 255 and found["teacher"]["scaling_layers"] == 2


def test_ranges_as_they_should_be_are_no_finding():
    assert told(model(rescaling()), model(rescaling(2 / 255, -1.0))) == {}


def test_a_student_without_the_teachers_scaling_is_warned_of():
    assert told(model(rescaling()), model()) == {"input_ranges": "warning"}
    assert told(model(rescaling()), model(), known=["student"]) == {
        "input_ranges": "note"
    }
    # A teacher may want it so.
    assert told(model(), model(rescaling())) == {"input_ranges": "note"}


def test_inputs_scaled_twice_or_not_enough():
    pair = model(rescaling()), model(rescaling())
    assert told(*pair, X / 255) == {"inputs_scaled": "warning"}
    assert told(*pair, X * 255) == {"inputs_scaled": "warning"}
    assert told(*pair, X / 255, known=["teacher", "student"]) == {}


def test_tokens_have_no_range_to_speak_of():
    tokens = keras.Sequential([keras.Input((4,)), layers.Embedding(9, 3)])
    found = look(tokens, tokens.__class__.from_config(tokens.get_config()), X[:, 0] * 0)
    assert found["teacher"] == {**found["given"], "scaling_layers": 0.0}
    assert findings(found, ()) == []
