"""Nothing of a step is left behind when its trace ends."""

import keras
import pytest

from keras_dtkd.losses import DTKD, DistillationLoss
from keras_dtkd.views import View
from tests.tiny_models import data, distiller, student

X, Y = data(16)


class Hint(DistillationLoss):
    """Needs features of both models."""

    student_layers = ("hint",)
    teacher_layers = ("dense",)

    def compute(self, step):
        size = sum(
            keras.ops.mean(features**2, axis=-1)
            for features in (
                step.student_features["hint"],
                step.teacher_features["dense"],
            )
        )
        return size


@pytest.mark.skipif(keras.config.backend() != "jax", reason="JAX checks for leaks.")
def test_training_under_jax_leaks_no_tracer():
    import jax

    small = student(dropout=0.5, norm=True)
    small.layers[0].name = "hint"
    big = distiller().teacher
    next(layer for layer in big.layers if "dense" in layer.name).name = "dense"
    losses = {
        "dtkd": DTKD(warmup_epochs=0),
        "noisy": DTKD(warmup_epochs=0, view="noise"),
        "hint": Hint(),
    }
    views = {"noise": View(keras.layers.GaussianNoise(0.1))}
    with jax.checking_leaks():
        d = distiller(losses, views=views, teacher=big, student=small)
        d.fit(X, Y, epochs=2, validation_data=(X, Y), verbose=0)
        d.evaluate(X, Y, verbose=0)
