"""A model as teacher."""

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.losses import KD
from keras_dtkd.teachers import ModelTeacher
from keras_dtkd.teachers.forward import run_teacher
from tests.tiny_models import close, data, everything, student, teacher

X, Y = data(16)


def outputs_of(model):
    return keras.ops.convert_to_numpy(run_teacher(ModelTeacher(model), X))


def test_it_runs_in_inference_mode():
    # Dropout and BatchNormalization: `predict` silences both.
    model = teacher(scale=1.0)
    assert np.allclose(outputs_of(model), model.predict(X, verbose=0), atol=1e-5)
    assert np.array_equal(outputs_of(model), outputs_of(model))


@pytest.mark.invariant(number=9)
def test_running_it_changes_nothing():
    class CallCounter(keras.layers.Layer):
        """Counts in a variable, even in inference mode."""

        def __init__(self):
            super().__init__()
            self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

        def call(self, inputs):
            self.count.assign_add(1.0)
            return inputs

    model = teacher(compiled=True)
    model = keras.Sequential([keras.Input((6,)), CallCounter(), *model.layers])
    before = everything(model)
    outputs_of(model)
    assert everything(model) == before
    Distiller(model, student(), KD()).fit(X, Y, batch_size=8, verbose=0)
    assert everything(model) == before


@pytest.mark.invariant(number=9)
def test_its_trainable_flag_is_left_as_found():
    for flag in (True, False):
        model = teacher()
        model.trainable = flag
        Distiller(model, student(), KD()).fit(X, Y, verbose=0)
        assert model.trainable is flag


def test_wrapped_or_not_it_is_the_same_teacher():
    large, runs = teacher(), []
    for given in (large, ModelTeacher(large)):
        small = student()
        d = Distiller(given, small, KD())
        d.fit(X, Y, shuffle=False, verbose=0)
        assert d.teacher is large
        runs.append(small)
    assert close(*runs)
