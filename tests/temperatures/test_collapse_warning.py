"""A student whose temperature falls to DTKD's degenerate minimum is one warning."""

import warnings

import pytest

from keras_dtkd.losses import DTKD, KD
from tests.tiny_models import distiller


def callbacks_of(loss):
    d = distiller({"ours": loss})
    return [
        callback
        for temperature in loss.get_temperatures()
        for callback in temperature.training_callbacks(d)
    ]


def run_epochs(callbacks, means):
    for callback in callbacks:
        for epoch, mean in enumerate(means):
            callback.on_epoch_end(epoch, {"student_temperature": mean})


FALLING = [1.0, 0.12, 0.11, 0.1, 0.1]


@pytest.mark.parametrize("rule", ["max", "centered", "std"])
def test_a_student_temperature_that_falls_to_the_bound_is_one_warning(rule):
    callbacks = callbacks_of(DTKD(rule=rule))
    with pytest.warns(UserWarning, match="'?ours`?.*fallen to 0.1.*rule='exact'") as w:
        run_epochs(callbacks, FALLING)
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
    callbacks = callbacks_of(loss())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_epochs(callbacks, means)
