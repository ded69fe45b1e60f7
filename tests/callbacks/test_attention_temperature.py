"""The temperature of attention follows the epoch."""

import keras
import numpy as np
import pytest

from keras_dtkd.callbacks import AttentionTemperature, Resume
from keras_dtkd.losses import KD
from tests.models.mixtures import mixture
from tests.tensors import numpy
from tests.tiny_models import data, distiller, same, student

pytestmark = [pytest.mark.invariant(number=7), pytest.mark.single_backend]

X, Y = data(24)


def temperatures(model):
    return [float(numpy(a.attention_temperature)) for a in model.attentions]


def fit(model, callbacks, epochs=3, **options):
    optimizer = keras.optimizers.Adam(0.01)
    d = distiller(KD(), optimizer, student=model)
    callbacks = callbacks(d) if callable(callbacks) else callbacks
    options = {"shuffle": False, "verbose": 0, **options}
    return d.fit(X, Y, 24, epochs, callbacks=callbacks, **options).history


def test_the_default_is_the_published_schedule():
    model = mixture()
    logs = fit(model, [AttentionTemperature()])
    assert logs["attention_temperature"] == pytest.approx([10, 5, 10 / 3])
    assert temperatures(model) == pytest.approx([10 / 3] * 2)


def test_a_schedule_of_keras_is_called_with_the_epoch():
    decay = keras.optimizers.schedules.PolynomialDecay(8.0, 2, 2.0)
    logs = fit(mixture(), [AttentionTemperature(decay)])
    assert logs["attention_temperature"] == pytest.approx([8, 5, 2])


def test_a_model_without_distiller_follows_it_too():
    model = mixture()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    logs = model.fit(
        X, Y, epochs=2, verbose=0, callbacks=[AttentionTemperature()]
    ).history
    assert logs["attention_temperature"] == [10, 5]
    assert temperatures(model) == [5, 5]


@pytest.mark.invariant(number=8)
def test_a_resumed_run_continues_bit_for_bit(tmp_path):
    unbroken = mixture()
    logs = fit(unbroken, [AttentionTemperature()], 4)
    for epochs in (2, 4):
        resumed = mixture()
        resume = Resume(tmp_path)
        callbacks, first = [AttentionTemperature(), resume], resume.epoch
        rest = fit(resumed, callbacks, epochs, initial_epoch=first)
    assert same(unbroken, resumed)
    assert rest["attention_temperature"] == logs["attention_temperature"][2:]


@pytest.mark.invariant(number=10)
def test_a_model_without_attention_is_an_error_before_the_first_step():
    small = student()
    with pytest.raises(ValueError, match="`AttentionTemperature`: 'student' has no"):
        fit(small, [AttentionTemperature()])
    assert same(small, student())


@pytest.mark.invariant(number=10)
def test_a_schedule_that_is_none_is_an_error():
    with pytest.raises(ValueError, match="function of the epoch.*schedule=0.5"):
        AttentionTemperature(0.5)


@pytest.mark.invariant(number=10)
@pytest.mark.parametrize("value", [None, "warm"])
def test_a_schedule_without_a_number_is_an_error(value):
    model = mixture()
    with pytest.raises(ValueError, match=rf"`schedule\(0\)` must be a number.*{value}"):
        fit(model, [AttentionTemperature(lambda epoch: value)])
    assert same(model, mixture())


@pytest.mark.invariant(number=10)
def test_a_later_epoch_without_a_temperature_is_an_error_before_the_first_step():
    model = mixture()
    schedule = AttentionTemperature(lambda epoch: 1.0 - epoch / 2)
    with pytest.raises(ValueError, match=r"`schedule\(2\)`.*above 0"):
        fit(model, [schedule], 3)
    assert same(model, mixture())
    fit(model, [schedule], 2)


@pytest.mark.invariant(number=10)
@pytest.mark.parametrize("value", [0.0, -1.0, np.nan])
def test_a_temperature_that_is_not_positive_is_an_error(value):
    model = mixture()
    with pytest.raises(ValueError, match=rf"`schedule\(0\)`.*above 0.*{value}"):
        fit(model, [AttentionTemperature(lambda epoch: value)])
    assert same(model, mixture())
