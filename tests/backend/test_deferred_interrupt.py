"""Whatever stops a run, the teacher is untouched and the student usable."""

import contextlib
import os
import signal
import threading
import time

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.backend.deferred_interrupt import DeferredInterrupt
from keras_dtkd.losses import KD, DistillationLoss
from tests.tiny_models import (
    data,
    distiller,
    everything,
    numbers,
    same,
    student,
    teacher,
)

pytestmark = pytest.mark.invariant(number=9)

X, Y = data(32)


class Stop(Exception):
    pass


def build_distiller(losses=None, **kwargs):
    d = Distiller(
        teacher(compiled=True),
        student(norm=True, dropout=0.2),
        losses or KD(),
        **kwargs,
    )
    d.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return d


def is_sound(d, teacher_before, student_before=None):
    """Invariant 9 for the teacher; the student predicts and goes on learning."""
    assert everything(d.teacher) == teacher_before
    before = numbers(d.student)
    assert all(np.isfinite(w).all() for w in before)
    if student_before is not None:
        assert not same(before, student_before), "what was learned before is lost"
    assert np.isfinite(d.predict(X, verbose=0)).all()
    logs = d.fit(X, Y, batch_size=8, verbose=0).history
    assert np.isfinite(logs["loss"]).all()
    assert not same(before, d.student)
    assert everything(d.teacher) == teacher_before
    d.teacher.predict(X, verbose=0)


@pytest.mark.parametrize("error", [KeyboardInterrupt, Stop])
@pytest.mark.parametrize("moment", ["on_train_batch_begin", "on_train_batch_end"])
def test_a_callback_that_fails_within_an_epoch(error, moment):
    class Failing(keras.callbacks.Callback):
        armed = True

        def fail(self, batch, logs=None):
            if batch == 2 and self.armed:
                raise error

    failing = Failing()
    setattr(failing, moment, failing.fail)
    d = build_distiller()
    before, start = everything(d.teacher), numbers(d.student)
    with pytest.raises(error):
        d.fit(X, Y, batch_size=8, callbacks=[failing], verbose=0)
    is_sound(d, before, start)


def test_a_callback_that_fails_in_evaluate_and_in_validation():
    class Failing(keras.callbacks.Callback):
        def on_test_batch_end(self, batch, logs=None):
            raise Stop

    d = build_distiller(evaluate_distillation=True)
    before = everything(d.teacher)
    d.fit(X, Y, batch_size=8, verbose=0)
    with pytest.raises(Stop):
        d.evaluate(X, Y, callbacks=[Failing()], verbose=0)
    assert everything(d.teacher) == before
    with pytest.raises(Stop):
        d.fit(X, Y, validation_data=(X, Y), callbacks=[Failing()], verbose=0)
    is_sound(d, before)


def test_data_that_fail():
    def batches():
        for start in (0, 8, 16):
            yield X[start : start + 8], Y[start : start + 8]
        raise Stop("the disk is gone")

    d = build_distiller()
    before, start = everything(d.teacher), numbers(d.student)
    # TensorFlow reports the generator's error as one of its own.
    with pytest.raises(Exception, match="the disk is gone"):
        d.fit(batches(), verbose=0)
    is_sound(d, before, start)


@pytest.mark.graph
def test_a_loss_that_fails_when_it_is_first_computed():
    class Failing(DistillationLoss):
        broken = True

        def call(self, student_logits, teacher_logits, labels=None):
            if self.broken:
                raise Stop
            return keras.ops.mean((student_logits - teacher_logits) ** 2, axis=-1)

    loss = Failing()
    d = build_distiller(loss)
    before = everything(d.teacher)
    with pytest.raises(Stop):
        d.fit(X, Y, batch_size=8, verbose=0)
    loss.broken = False
    d.compile(d.optimizer, d.loss)
    is_sound(d, before)


@pytest.mark.graph
def test_a_teacher_that_fails():
    class Failing:
        variables = []
        calls = 0

        def outputs(self, x, sample_ids=None):
            self.calls += 1
            if self.calls > 1:
                raise Stop
            return keras.ops.zeros((x.shape[0], 4)) + keras.ops.arange(4.0)

        def fingerprint(self):
            return "failing"

    d = Distiller(Failing(), student(), KD())
    start = numbers(d.student)
    with pytest.raises(Stop):
        d.fit(X, verbose=0)
    assert same(start, d.student)
    d.teacher = teacher()
    is_sound(d, everything(d.teacher))


class Interrupt(keras.callbacks.Callback):
    """Sends this process a real Ctrl-C from another thread, and ends a lost run."""

    # Steps do not wait for it, as in a `fit` without such a callback.
    async_safe = True

    def __init__(self, delay):
        super().__init__()
        self.delay = delay
        self.sent = False
        self.begun = time.monotonic()

    def _send(self):
        os.kill(os.getpid(), signal.SIGINT)

    def on_train_batch_end(self, batch, logs=None):
        if not self.sent:
            self.sent = True
            threading.Timer(self.delay, self._send).start()

    on_test_batch_end = on_train_batch_end

    def on_epoch_end(self, epoch, logs=None):
        assert time.monotonic() - self.begun < 60, "the interrupt was lost"


@pytest.fixture(autouse=True)
def ctrl_c_interrupts():
    """A shell starts what runs in its background with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("delay", [0.0, 0.003, 0.02, 0.05])
@pytest.mark.graph
def test_ctrl_c_while_it_trains(delay):
    d = build_distiller()
    before, start = everything(d.teacher), numbers(d.student)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        d.fit(
            X,
            Y,
            batch_size=4,
            epochs=10**6,
            callbacks=[Interrupt(delay)],
            verbose=0,
        )
    assert signal.getsignal(signal.SIGINT) is handler
    is_sound(d, before, start)


@pytest.mark.graph
def test_ctrl_c_while_it_evaluates():
    d = build_distiller(evaluate_distillation=True)
    d.fit(X, Y, batch_size=8, verbose=0)
    before = everything(d.teacher)
    many = np.tile(X, (3000, 1)), np.tile(Y, 3000)
    with pytest.raises(KeyboardInterrupt):
        d.evaluate(*many, batch_size=4, callbacks=[Interrupt(0.01)], verbose=0)
    is_sound(d, before)


# The holding back itself, without any backend.


def test_an_interrupt_within_a_step_waits_for_its_end():
    interrupts = DeferredInterrupt()
    seen = []
    with pytest.raises(KeyboardInterrupt), interrupts.installed():
        for _ in interrupts.protect_iterator(iter([1])):
            signal.raise_signal(signal.SIGINT)
            seen.append("the step went on")
        interrupts.raise_pending()
        seen.append("never")
    assert seen == ["the step went on"]


def test_a_second_interrupt_does_not_wait():
    interrupts = DeferredInterrupt()
    with pytest.raises(KeyboardInterrupt), interrupts.installed():
        for _ in interrupts.protect_iterator(iter([1])):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        pytest.fail("it waited")


def test_between_steps_an_interrupt_is_an_interrupt():
    interrupts = DeferredInterrupt()
    with pytest.raises(KeyboardInterrupt), interrupts.installed():
        list(interrupts.protect_iterator(iter([1])))
        interrupts.raise_pending()
        signal.raise_signal(signal.SIGINT)
        pytest.fail("it was held back")


def test_a_step_is_whole():
    interrupts = DeferredInterrupt()
    seen = []

    def function(batch):
        signal.raise_signal(signal.SIGINT)
        seen.append(batch)

    with pytest.raises(KeyboardInterrupt), interrupts.installed():
        interrupts.protect_step(function)("the step went on")
        pytest.fail("it was lost")
    assert seen == ["the step went on"]


def test_an_interrupt_that_someone_swallows_comes_again():
    """Native code that asks for an attribute clears whatever that raises."""
    interrupts = DeferredInterrupt()
    with pytest.raises(KeyboardInterrupt), interrupts.installed():
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        interrupts.protect_step(lambda: None)()
        pytest.fail("it was lost")


def test_the_error_of_a_failed_step_is_the_one_raised():
    interrupts = DeferredInterrupt()

    def function():
        signal.raise_signal(signal.SIGINT)
        raise Stop

    with pytest.raises(Stop), interrupts.installed():
        interrupts.protect_step(function)()


def test_in_other_threads_nothing_is_held_back():
    handlers = []

    def work():
        with DeferredInterrupt().installed():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGINT)]


def test_fit_works_outside_of_the_main_thread():
    d = distiller(KD())
    logs = []

    def work():
        logs.append(d.fit(X, Y, verbose=0).history)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert np.isfinite(logs[0]["loss"]).all()
