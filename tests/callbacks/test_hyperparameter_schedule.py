"""Invariant 7, by name: numbers that follow a schedule."""

import keras
import pytest
from keras import ops

from keras_dtkd import Hyperparameter, temperatures
from keras_dtkd.callbacks import HyperparameterSchedule
from keras_dtkd.losses import DTKD, KD, DistillationLoss
from tests.tiny_models import data, distiller, numbers, same, student

pytestmark = pytest.mark.invariant(number=7)

X, Y = data(16)


def scheduled(*schedules, epochs=3, **options):
    losses = {"kd": KD(), "ours": DTKD(rule="std", warmup_epochs=0)}
    d = distiller(losses, keras.optimizers.SGD(0.0), **options)
    logs = d.fit(
        X, Y, batch_size=16, epochs=epochs, callbacks=list(schedules), verbose=0
    ).history
    return d, logs


def test_a_function_of_the_epoch_sets_the_number():
    d, logs = scheduled(
        HyperparameterSchedule("kd.weight", lambda epoch: 0.5**epoch),
        HyperparameterSchedule("ours.weight", lambda epoch: 0.0),
        HyperparameterSchedule("task_weight", lambda epoch: float(epoch)),
    )
    for epoch in range(3):
        expected = 0.5**epoch * logs["kd"][epoch] + epoch * logs["task_loss"][epoch]
        assert logs["loss"][epoch] == pytest.approx(expected, rel=1e-5)
    assert d.distillation_losses["kd"].weight == 0.25 and d.task_weight == 2.0


def test_a_learning_rate_schedule_of_keras_is_called_with_the_epoch():
    decay = keras.optimizers.schedules.PolynomialDecay(8.0, 2, 2.0)
    _, logs = scheduled(HyperparameterSchedule("kd.temperature", decay))
    assert logs["kd.temperature"] == pytest.approx([8.0, 5.0, 2.0])


def test_a_schedule_is_called_once_an_epoch():
    values = iter([8.0, 5.0, 2.0])
    _, logs = scheduled(
        HyperparameterSchedule("kd.temperature", lambda _: next(values))
    )
    assert logs["kd.temperature"] == [8.0, 5.0, 2.0]


def test_longer_names_reach_further_in():
    d, logs = scheduled(
        HyperparameterSchedule("ours.temperature", lambda epoch: 3.0),
        HyperparameterSchedule("ours.alpha", lambda epoch: 0.0),
        HyperparameterSchedule("ours.temperature.min_temperature", lambda epoch: 0.5),
        HyperparameterSchedule("ours.warmup_epochs", lambda epoch: 6),
    )
    both = logs["student_temperature"][0] + logs["teacher_temperature"][0]
    assert both == pytest.approx(6.0)
    loss = d.distillation_losses["ours"]
    assert loss.alpha == 0.0 and loss.temperature.min_temperature == 0.5
    assert loss.warmup_epochs == 6


def test_a_misspelled_name_is_an_error_that_lists_all_names():
    with pytest.raises(ValueError) as error:
        scheduled(HyperparameterSchedule("ours.temperature.minimun", lambda epoch: 0.0))
    listed = str(error.value).partition("Known are: ")[2].rstrip(".").split(", ")
    names = [name.strip("'") for name in listed]
    assert {"task_weight", "kd.temperature", "ours.temperature.min_temperature"} <= set(
        names
    )
    scheduled(*(HyperparameterSchedule(n, lambda epoch: 1.0) for n in names), epochs=1)


@pytest.mark.parametrize(
    "name", ["kd.wieght", "dtkd.weight", "weight", "kd.temperature.nothing.at_all"]
)
def test_an_unknown_name_is_an_error_before_the_first_step(name):
    small = student()
    d = distiller({"kd": KD()}, student=small)
    message = f"there is no '{name}'.*'task_weight', 'kd.weight'"
    with pytest.raises(ValueError, match=message):
        d.fit(
            X, Y, callbacks=[HyperparameterSchedule(name, lambda epoch: 1.0)], verbose=0
        )
    assert same(numbers(small), numbers(student()))


class Own(DistillationLoss):
    """Numbers of a user's own: declared, and not."""

    factor = Hyperparameter(minimum=0.0)

    def __init__(self, temperature=4.0, **kwargs):
        super().__init__(**kwargs)
        self.temperature = temperatures.get(temperature)
        self.factor = self.margin = 1.0

    def call(self, student_logits, teacher_logits, labels=None):
        pair = self.temperature(student_logits, teacher_logits)
        distance = (student_logits / pair.student - teacher_logits / pair.teacher) ** 2
        factor = self.margin * self.hyperparameter("factor")
        return factor * ops.mean(distance, axis=-1)


def own_logs(name, schedule):
    d = distiller({"own": Own()}, keras.optimizers.SGD(0.0))
    callbacks = [HyperparameterSchedule(name, schedule)]
    return d.fit(X, Y, epochs=3, callbacks=callbacks, verbose=0).history["own"]


@pytest.mark.graph
def test_declared_numbers_and_temperatures_of_an_own_loss_take_effect():
    first, second, third = own_logs("own.factor", lambda epoch: float(epoch))
    assert (first, third) == pytest.approx((0.0, 2 * second), rel=1e-5) and second > 0
    first, second, third = own_logs("own.temperature", lambda epoch: 2.0**epoch)
    assert (first, second) == pytest.approx((4 * second, 4 * third), rel=1e-5)


def test_a_plain_number_is_refused_before_the_first_step():
    message = "'own.margin' is a plain number.*`margin = keras_dtkd.Hyper.*`Own`"
    with pytest.raises(ValueError, match=message):
        own_logs("own.margin", lambda epoch: 1.0)


@pytest.mark.parametrize(
    "name", ["kd.divergence", "kd.name", "student.trainable", "evaluate_distillation"]
)
def test_what_is_no_number_that_may_change_is_refused(name):
    small = student()
    d = distiller({"kd": KD()}, student=small)
    callbacks = [HyperparameterSchedule(name, lambda epoch: 1.0)]
    message = f"'{name}' is no hyperparameter.*Known are: 'task_weight', 'kd.weight'"
    with pytest.raises(ValueError, match=message):
        d.fit(X, Y, callbacks=callbacks, verbose=0)
    assert same(numbers(small), numbers(student())) and small.trainable


def test_a_schedule_that_is_none_is_an_error():
    with pytest.raises(ValueError, match="function of the epoch.*schedule=0.5"):
        HyperparameterSchedule("kd.weight", 0.5)


def test_a_schedule_without_a_number_is_an_error():
    d = distiller({"kd": KD()}, student=student())
    nothing = HyperparameterSchedule("kd.weight", lambda epoch: None)
    with pytest.raises(ValueError, match=r"`schedule\(0\)` must be a number.*None"):
        d.fit(X, Y, callbacks=[nothing], verbose=0)


def test_a_value_out_of_range_is_an_error_that_names_the_number():
    small = student()
    d = distiller({"kd": KD()}, student=small)
    falling = HyperparameterSchedule("kd.weight", lambda epoch: -1.0)
    with pytest.raises(ValueError, match="`weight` must be.*weight=-1.0"):
        d.fit(X, Y, callbacks=[falling], verbose=0)
    assert same(numbers(small), numbers(student()))


def test_verbose_prints_each_new_value(capsys):
    scheduled(
        HyperparameterSchedule("kd.weight", lambda epoch: 0.5, verbose=1), epochs=1
    )
    assert "Epoch 1: kd.weight = 0.5" in capsys.readouterr().out
