"""A temperature by the epoch: any function, any of Keras's schedules."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd.losses import KD
from keras_dtkd.temperatures import Scheduled
from tests.logit_cases import CASE, assert_close
from tests.tiny_models import data, distiller, numbers, same, teacher


@keras.saving.register_keras_serializable("tests")
def falling(epoch):
    return 8.0 / (1 + epoch)


@keras.saving.register_keras_serializable("tests")
def ends_at_zero(epoch):
    return 3.0 - epoch


def given(rule):
    logits = (ops.convert_to_tensor(z, "float32") for z in CASE[:2])
    return [float(ops.convert_to_numpy(t)) for t in rule(*logits)]


def test_starts_with_the_temperature_of_epoch_0():
    assert given(Scheduled(falling)) == [8.0, 8.0, 64.0]


def test_gives_each_epoch_its_temperature():
    rule = Scheduled(falling)
    for epoch in (1, 2, 4, 3):
        rule.on_epoch_begin(epoch, 10)
        t = falling(epoch - 1)
        assert_close(given(rule), [t, t, t * t], 1e-6, t * t)


def test_takes_keras_schedules():
    rule = Scheduled(keras.optimizers.schedules.PolynomialDecay(6.0, 4, 2.0))
    temperatures = []
    for epoch in range(1, 7):
        rule.on_epoch_begin(epoch, 6)
        temperatures.append(given(rule)[0])
    assert temperatures == [6.0, 5.0, 4.0, 3.0, 2.0, 2.0]


def test_a_number_set_manually_holds_until_the_next_epoch():
    rule = Scheduled(falling)
    rule.temperature = 3.0
    assert given(rule)[0] == 3.0
    rule.on_epoch_begin(2, 10)
    assert given(rule)[0] == 4.0


@pytest.mark.invariant(number=7)
@pytest.mark.invariant(number=8)
@pytest.mark.graph
def test_fit_follows_the_schedule_and_continues_after_loading(tmp_path):
    x, y = data(16)

    def run(d, start, stop):
        options = {"shuffle": False, "verbose": 0, "batch_size": 8}
        return d.fit(x, y, initial_epoch=start, epochs=stop, **options).history

    d = distiller(KD(Scheduled(falling)))
    assert run(d, 0, 2)["student_temperature"] == [8.0, 4.0]
    d.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    assert loaded.distillation_losses["kd"].temperature.temperature == 4.0
    loaded.teacher = teacher()
    logs = [run(model, 2, 4) for model in (d, loaded)]
    assert logs[0] == logs[1]
    assert_close(logs[0]["student_temperature"], [8 / 3, 2.0], 1e-6)
    assert same(d, loaded)


@pytest.mark.invariant(number=10)
def test_a_schedule_that_reaches_zero_raises_before_the_first_step():
    d = distiller(KD(Scheduled(ends_at_zero)))
    before = numbers(d)
    with pytest.raises(ValueError, match=r"schedule\(3\) = 0"):
        d.fit(*data(8), epochs=4, verbose=0)
    assert same(numbers(d), before)


def test_only_epochs_of_the_fit_are_validated():
    epochs_seen = []

    def schedule(epoch):
        epochs_seen.append(epoch)
        return 1.0

    rule = Scheduled(schedule)
    rule.on_epoch_begin(1, 3)
    rule.on_epoch_begin(2, 3)
    assert sorted(set(epochs_seen)) == [0, 1, 2]


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_a_temperature_not_above_zero_raises(value):
    with pytest.raises(ValueError, match=r"schedule\(0\) = "):
        Scheduled(lambda epoch: value)


def test_a_schedule_without_a_number_raises():
    with pytest.raises(ValueError, match=r"`schedule\(0\)` must be a number.*None"):
        Scheduled(lambda epoch: None)
