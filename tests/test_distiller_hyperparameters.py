"""Invariant 7: numbers that are changed while `fit` runs."""

import keras
import numpy as np
import pytest

from keras_dtkd.losses import DTKD, KD, DistillationLoss
from tests.tiny_models import close, data, distiller, numbers, same, student

pytestmark = pytest.mark.invariant(number=7)


class At(keras.callbacks.Callback):
    """Does something at a moment of given epochs."""

    def __init__(self, actions, moment="on_epoch_begin"):
        super().__init__()
        self.actions, self.moment = actions, moment
        setattr(self, moment, self.act)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def act(self, index, logs=None):
        epoch = self.epoch if "batch" in self.moment else index
        if epoch in self.actions:
            self.actions[epoch](self.model)


def set_to(path, value):
    def act(d):
        *owners, last = path.split(".")
        owner = d
        for i, name in enumerate(owners):
            owner = d.distillation_losses[name] if i == 0 else getattr(owner, name)
        setattr(owner, last, value)

    return act


CHANGES = {
    1: set_to("kd.weight", 2.0),
    2: set_to("task_weight", 0.5),
    3: set_to("kd.temperature", 2.0),
    4: set_to("dtkd.alpha", 0.0),
    5: set_to("dtkd.temperature", 2.0),
    6: set_to("dtkd.warmup_epochs", 16),
}


def test_every_hyperparameter_takes_effect_without_compiling_again():
    x, y = data(16)
    traces = []

    class Traced(KD):
        def call(self, *args, **kwargs):
            traces.append(1)
            return super().call(*args, **kwargs)

    # The student stands still, so that every change is the hyperparameter's.
    losses = {"kd": Traced(), "dtkd": DTKD(warmup_epochs=0)}
    d = distiller(losses, keras.optimizers.SGD(0.0))
    seen = []
    counting = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(len(traces))
    )
    logs = d.fit(
        x, y, batch_size=16, epochs=8, callbacks=[At(CHANGES), counting], verbose=0
    ).history
    task, kd, dtkd = logs["task_loss"][0], logs["kd"], logs["dtkd"]

    def total(epoch, task_weight=0.5, kd_weight=2.0, ramp=1.0):
        return task_weight * task + kd_weight * kd[epoch] + ramp * dtkd[epoch]

    assert logs["loss"][0] == pytest.approx(total(0, 1.0, 1.0), rel=1e-5)
    assert logs["loss"][1] == pytest.approx(total(1, 1.0), rel=1e-5)
    assert logs["loss"][2] == pytest.approx(total(2), rel=1e-5)
    assert kd[2] == pytest.approx(kd[0], rel=1e-5)
    assert kd[3] != pytest.approx(kd[0], rel=0.01)
    # Without its dynamic term, DTKD is KD at τ, here still 4.
    assert dtkd[4] == pytest.approx(kd[0], rel=1e-4)
    assert dtkd[5] == pytest.approx(kd[5], rel=1e-4)
    # The ramp of the epoch was set before the callback changed it.
    assert logs["loss"][6] == pytest.approx(total(6), rel=1e-5)
    assert logs["loss"][7] == pytest.approx(total(7, ramp=0.5), rel=1e-5)
    if keras.config.backend() != "torch":
        assert set(seen) == {seen[0]}


@pytest.mark.parametrize(
    "moment", ["on_epoch_begin", "on_epoch_end", "on_train_batch_end"]
)
def test_a_change_at_any_moment_takes_effect_in_the_next_epoch(moment):
    x, y = data(16)
    changed, reference = student(), student()
    a = distiller(student=changed, optimizer=keras.optimizers.SGD(0.1))
    epoch = 1 if moment == "on_epoch_begin" else 0

    def change(d):
        d.task_weight, d.distillation_losses["kd"].weight = 0.5, 0.25

    # One batch an epoch: no step of this epoch follows the change.
    callback = At({epoch: change}, moment)
    a.fit(x, y, batch_size=16, epochs=3, callbacks=[callback], verbose=0)
    b = distiller(student=reference, optimizer=keras.optimizers.SGD(0.1))
    b.fit(x, y, batch_size=16, epochs=1, verbose=0)
    change(b)
    b.fit(x, y, batch_size=16, initial_epoch=1, epochs=3, verbose=0)
    assert close(changed, reference)
    assert (a.task_weight, a.distillation_losses["kd"].weight) == (0.5, 0.25)


def test_a_change_between_runs_takes_effect_in_the_next():
    x, y = data(16)
    small = student()
    d = distiller(KD(), student=small, task_weight=1.0)
    d.fit(x, y, verbose=0)
    before = numbers(small)
    d.task_weight = 0.0
    d.distillation_losses["kd"].weight = 0.0
    d.fit(x, y, verbose=0)
    assert same(before, numbers(small))


def test_a_warm_up_grows_by_the_epoch_from_its_initial_epoch():
    x, y = data(16)
    d = distiller(KD(warmup_epochs=4), keras.optimizers.SGD(0.0), task_weight=0.0)
    logs = d.fit(x, y, initial_epoch=1, epochs=5, verbose=0).history
    ramps = np.divide(logs["loss"], logs["kd"])
    assert ramps == pytest.approx([0.5, 0.75, 1.0, 1.0], rel=1e-5)


def test_an_automatic_warm_up_takes_a_twelfth_of_the_epochs():
    class Ramps(keras.callbacks.Callback):
        seen = []

        def on_epoch_end(self, epoch, logs=None):
            self.seen.append(logs["loss"] / logs["dtkd"])

    x, y = data(8)
    d = distiller(DTKD(), keras.optimizers.SGD(0.0), task_weight=0.0)
    d.fit(x, y, epochs=36, initial_epoch=31, verbose=0)
    ramps = Ramps()
    d.fit(x, y, epochs=36, callbacks=[ramps, Stop(4)], verbose=0)
    assert ramps.seen == pytest.approx([1 / 3, 2 / 3, 1.0, 1.0], rel=1e-4)


class Stop(keras.callbacks.Callback):
    def __init__(self, after):
        super().__init__()
        self.after = after

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch + 1 >= self.after


def test_a_loss_is_notified_of_each_epoch():
    received = []

    class Telling(DistillationLoss):
        def call(self, student_logits, teacher_logits, labels=None):
            return keras.ops.mean(student_logits**2, axis=-1)

        def on_epoch_begin(self, epoch, epochs):
            super().on_epoch_begin(epoch, epochs)
            received.append((epoch, epochs))

    x, y = data(8)
    distiller(Telling()).fit(x, y, initial_epoch=1, epochs=3, verbose=0)
    assert received == [(2, 3), (3, 3)]
