"""The callback that every `fit` brings."""

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.losses import KD
from keras_dtkd.training.epoch_hooks import order_callbacks
from keras_dtkd.views import View
from tests.tiny_models import data, distiller, everything, numbers, student, teacher

X, Y = data(16)


def test_losses_are_notified_before_the_users_callbacks():
    order = []

    class Ours(KD):
        def on_epoch_begin(self, epoch, epochs):
            super().on_epoch_begin(epoch, epochs)
            order.append("loss")

    user = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: order.append("user")
    )
    distiller(Ours()).fit(X, Y, epochs=2, callbacks=[user], verbose=0)
    assert order == ["loss", "user"] * 2


@pytest.mark.single_backend
def test_no_step_waits_for_the_logs_of_the_one_before():
    # Keras reads them in other threads where no callback has a hook on batches.
    base, callbacks = keras.callbacks.Callback, order_callbacks(distiller(KD()), [], [])
    assert callbacks
    for callback in callbacks:
        for name in ("on_batch_end", "on_train_batch_end", "on_test_batch_end"):
            assert getattr(type(callback), name) is getattr(base, name), name


@pytest.mark.invariant(number=9)
def test_a_users_callback_may_use_the_teacher_while_fit_runs():
    # Invariant 9, and under JAX: the teacher's variables are never emptied.
    class Predicting(keras.callbacks.Callback):
        outputs = []

        def predict(self, *args, **kwargs):
            self.outputs.append(self.model.teacher.predict(X, verbose=0))

        on_epoch_begin = on_epoch_end = on_train_batch_end = predict
        on_train_begin = on_train_end = predict

    predicting = Predicting()
    d = distiller(KD(), evaluate_distillation=True)
    expected = d.teacher.predict(X, verbose=0)
    before = everything(d.teacher)
    d.fit(
        X,
        Y,
        batch_size=8,
        epochs=2,
        validation_data=(X, Y),
        callbacks=[predicting],
        verbose=0,
    )
    assert len(predicting.outputs) == 10
    assert all(np.array_equal(outputs, expected) for outputs in predicting.outputs)
    assert everything(d.teacher) == before


def test_a_users_callback_may_use_the_student_after_each_epoch():
    seen = []
    user = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(
            (numbers(d.student), d.student.predict(X, verbose=0))
        )
    )
    d = distiller(KD(), keras.optimizers.SGD(0.1))
    d.fit(X, Y, epochs=2, callbacks=[user], verbose=0)
    assert not np.array_equal(seen[0][1], seen[1][1])
    assert np.array_equal(seen[1][1], d.student.predict(X, verbose=0))


def test_a_fit_under_jax_copies_its_state_back_as_rarely_as_keras_alone():
    if keras.config.backend() != "jax":
        pytest.skip("Keras copies state into variables under JAX alone.")
    d = distiller(KD())
    calls = []
    sync = d.jax_state_sync
    # Reading `callback.model` calls it too, and copies after a step.
    d.jax_state_sync = lambda: (calls.append(1), sync())
    d.fit(X, Y, batch_size=1, epochs=2, verbose=0)
    assert len(calls) < 16 < 2 * len(X)


def test_views_are_notified_of_each_epoch():
    class Counting(View):
        epochs = ()

        def on_epoch_begin(self, epoch, epochs):
            self.epochs = (*self.epochs, (epoch, epochs))

    view = Counting(keras.layers.Identity())
    d = Distiller(teacher(), student(), KD(view="v"), views={"v": view})
    d.fit(*data(8), initial_epoch=1, epochs=3, verbose=0)
    assert view.epochs == ((2, 3), (3, 3))
