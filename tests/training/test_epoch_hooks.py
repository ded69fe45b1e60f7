"""The callback that every `fit` brings along."""

import warnings

import keras
import numpy as np
import pytest

from keras_dtkd.losses import DTKD, KD
from keras_dtkd.training.epoch_hooks import EpochHooks
from tests.tiny_models import data, distiller, everything, numbers

X, Y = data(16)


def attending(loss):
    d = distiller({"ours": loss})
    attendant = EpochHooks()
    attendant.set_model(d)
    attendant.set_params({"epochs": 9, "steps": 1})
    return attendant


def epochs(attendant, means):
    for epoch, mean in enumerate(means):
        attendant.on_epoch_end(epoch, {"student_temperature": mean})


FALLING = [1.0, 0.12, 0.11, 0.1, 0.1]


@pytest.mark.parametrize("rule", ["max", "centered", "std"])
def test_a_student_temperature_that_falls_to_the_bound_is_one_warning(rule):
    with pytest.warns(UserWarning, match="'?ours`?.*fallen to 0.1.*rule='exact'") as w:
        epochs(attending(DTKD(rule=rule)), FALLING)
    assert len(w) == 1


@pytest.mark.parametrize(
    "loss, means",
    [
        (lambda: DTKD(), FALLING),
        (lambda: KD(), FALLING),
        (lambda: DTKD(rule="max"), [0.1, 0.15, 0.5, 2.0]),
        (lambda: DTKD(rule="max"), [4.0, 3.0, 2.0, 1.0]),
    ],
    ids=["exact", "KD", "rising", "far from the bound"],
)
def test_otherwise_there_is_no_warning(loss, means):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        epochs(attending(loss()), means)


def test_it_tells_the_losses_before_the_users_callbacks_speak():
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


@pytest.mark.invariant(number=9)
def test_a_users_callback_may_use_the_teacher_while_fit_runs():
    # Invariant 9, and under JAX: the teacher's variables are never emptied.
    class Asking(keras.callbacks.Callback):
        heard = []

        def ask(self, *args, **kwargs):
            self.heard.append(self.model.teacher.predict(X, verbose=0))

        on_epoch_begin = on_epoch_end = on_train_batch_end = ask
        on_train_begin = on_train_end = ask

    asking = Asking()
    d = distiller(KD(), evaluate_distillation=True)
    expected = d.teacher.predict(X, verbose=0)
    before = everything(d.teacher)
    d.fit(
        X,
        Y,
        batch_size=8,
        epochs=2,
        validation_data=(X, Y),
        callbacks=[asking],
        verbose=0,
    )
    assert len(asking.heard) == 10
    assert all(np.array_equal(heard, expected) for heard in asking.heard)
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
