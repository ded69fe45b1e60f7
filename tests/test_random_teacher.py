"""A teacher that draws random numbers draws new ones each step, and resumes them."""

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.losses import KD
from tests.tiny_models import CLASSES, FEATURES, data, everything, same, student

X, Y = data(16)


@keras.saving.register_keras_serializable("tests")
class AlwaysDropout(keras.layers.Dropout):
    """Monte Carlo dropout: it drops at inference too."""

    def call(self, inputs, training=None):
        return super().call(inputs, training=True)


def random_teacher():
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            AlwaysDropout(0.5, seed=3),
            keras.layers.Dense(
                CLASSES, kernel_initializer=keras.initializers.GlorotUniform(1)
            ),
        ]
    )


def make(teacher):
    d = Distiller(teacher, student(), KD(temperature=1.0))
    # Steps that change nothing: what differs is the teacher's.
    d.compile(keras.optimizers.SGD(0.0))
    return d


def losses_of(d, steps):
    return [float(d.train_on_batch(X, return_dict=True)["kd"]) for _ in range(steps)]


def single_losses(means):
    """Of each step, from running means."""
    sums = np.cumsum(np.ones(len(means))) * means
    return np.diff(np.concatenate([[0.0], sums]))


def test_each_step_draws_new_numbers():
    losses = single_losses(losses_of(make(random_teacher()), 4))
    assert np.ptp(losses) > 1e-3


@pytest.mark.invariant(number=9)
def test_the_teachers_random_state_is_unchanged():
    teacher = random_teacher()
    before = everything(teacher)
    make(teacher).fit(X, Y, epochs=2, verbose=0)
    assert everything(teacher) == before


@pytest.mark.invariant(number=8)
def test_a_loaded_run_continues_with_the_same_numbers(tmp_path):
    teacher, path = random_teacher(), tmp_path / "d.keras"
    d = make(teacher)
    d.fit(X, Y, batch_size=8, epochs=1, verbose=0)
    d.save(path)
    loaded = keras.models.load_model(path)
    loaded.teacher = teacher
    kwargs = {"batch_size": 8, "initial_epoch": 1, "epochs": 3, "verbose": 0}
    logs = [one.fit(X, Y, shuffle=False, **kwargs).history for one in (d, loaded)]
    assert logs[0]["kd"] == logs[1]["kd"]
    assert len(set(logs[0]["kd"])) == 2
    assert same(d.student, loaded.student)


def test_a_teacher_that_is_set_again_leaves_a_resumable_run(tmp_path):
    large = random_teacher()
    d = Distiller(large, student(dropout=0.5), KD())
    count = len(d.variables)
    d.teacher = large
    assert len(d.variables) == count
    d.fit(X, Y, shuffle=False, verbose=0)
    d.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    loaded.teacher = large
    histories = [m.fit(X, Y, shuffle=False, verbose=0).history for m in (d, loaded)]
    assert histories[0] == histories[1]
