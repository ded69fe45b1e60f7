"""Keras's own options of compiling and of precision, unchanged by the teacher."""

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.losses import DTKD, KD
from tests.tiny_models import (
    close,
    data,
    everything,
    numbers,
    one_hot,
    student,
    teacher,
)

X, Y = data(32)
BACKEND = keras.config.backend()


def run(optimizer=None, small=None, fit=None, losses=None, **options):
    small = student() if small is None else small
    d = Distiller(teacher(), small, losses or KD())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    d.compile(optimizer or keras.optimizers.SGD(0.1), loss, **options)
    fit = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0, **(fit or {})}
    logs = d.fit(X, Y, **fit).history
    return d, numbers(small), logs


@pytest.fixture(scope="module")
def reference():
    return run()


OPTIONS = {
    "eagerly": {"run_eagerly": True},
    "compiled": {"jit_compile": True},
    "not compiled": {"jit_compile": False},
    "several steps at once": {"steps_per_execution": 3},
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.graph
def test_compile_options_do_not_change_the_training(name, reference):
    if BACKEND == "torch" and name in ("compiled", "several steps at once"):
        pytest.skip("Keras has no steps_per_execution there, and torch.compile is slow")
    _, weights, logs = run(**OPTIONS[name])
    assert close(weights, reference[1], 1e-5)
    for key, value in reference[2].items():
        assert logs[key] == pytest.approx(value, rel=1e-4), key


@pytest.mark.graph
def test_several_steps_at_once_in_evaluate():
    if BACKEND == "torch":
        pytest.skip("Keras has no steps_per_execution there")
    d, _, _ = run(steps_per_execution=3)
    d.evaluate_distillation = True
    d.make_test_function(force=True)
    several = d.evaluate(X, Y, batch_size=8, verbose=0, return_dict=True)
    d.steps_per_execution = 1
    d.make_test_function(force=True)
    one = d.evaluate(X, Y, batch_size=8, verbose=0, return_dict=True)
    assert several == pytest.approx(one, rel=1e-5)
    predicted = d.predict(X, batch_size=8, verbose=0)
    assert np.allclose(predicted, d.student.predict(X, verbose=0), atol=1e-5)


@pytest.mark.graph
def test_accumulated_gradients_are_those_of_a_larger_batch():
    small = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    _, accumulated, _ = run(small, fit={"batch_size": 8})
    _, whole, _ = run(keras.optimizers.SGD(0.1), fit={"batch_size": 16})
    assert close(accumulated, whole, 1e-5)


def test_an_average_of_weights_replaces_them_at_the_end():
    average = {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": None}
    _, averaged, _ = run(keras.optimizers.SGD(0.1, **average))
    _, last, _ = run(keras.optimizers.SGD(0.1))
    start = numbers(student())
    assert not close(averaged, last)
    kernel = [np.linalg.norm(w[0] - start[0]) for w in (averaged, last)]
    assert 0 < kernel[0] < kernel[1]


@pytest.fixture(scope="module")
def in_float32():
    d = Distiller(teacher(scale=1.0), student(), DTKD())
    return d.fit(X, Y, batch_size=16, verbose=0).history


@pytest.mark.invariant(number=6)
@pytest.mark.parametrize(
    "large, small",
    [
        ("bfloat16", "float32"),
        ("float16", "float32"),
        ("float32", "bfloat16"),
        ("mixed_bfloat16", "float32"),
        ("float32", "mixed_bfloat16"),
        ("mixed_float16", "mixed_float16"),
    ],
)
def test_teacher_and_student_may_have_different_precision(large, small, in_float32):
    big, little = teacher(dtype=large, scale=1.0), student(dtype=small)
    little.set_weights(numbers(student()))
    before = everything(big)
    d = Distiller(big, little, DTKD())
    logs = d.fit(X, Y, batch_size=16, verbose=0).history
    assert all(np.isfinite(value).all() for value in logs.values())
    for name in ("dtkd", "task_loss", "student_temperature"):
        assert logs[name] == pytest.approx(in_float32[name], rel=0.05), name
    assert everything(big) == before
    assert {w.dtype for w in little.weights} == {
        keras.DTypePolicy(small).variable_dtype
    }


@pytest.mark.invariant(number=6)
@pytest.mark.parametrize("compiled", ["nobody", "student"])
@pytest.mark.graph
def test_a_mixed_float16_student_has_its_loss_scaled(compiled):
    little = student(dtype="mixed_float16")
    little = keras.Sequential([keras.Input((6,)), *little.layers])
    little.dtype_policy = keras.DTypePolicy("mixed_float16")
    if compiled == "student":
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        little.compile("adam", loss)
    d = Distiller(teacher(dtype="float32"), little, KD())
    d.fit(X, Y, verbose=0)
    assert isinstance(d.optimizer, keras.optimizers.LossScaleOptimizer)
    assert int(d.optimizer.inner_optimizer.iterations) > 0
    full = Distiller(teacher(), student(), KD())
    full.fit(X, Y, verbose=0)
    assert not isinstance(full.optimizer, keras.optimizers.LossScaleOptimizer)


@pytest.mark.invariant(number=6)
@pytest.mark.parametrize("scale", [1e4, 1e-4])
def test_extreme_logits_give_finite_losses_and_weights(scale):
    # Invariant 6 at the level of the whole step.
    big = teacher(scale=scale)
    d = Distiller(big, student(), [KD(), DTKD()])
    logs = d.fit(X, Y, epochs=2, verbose=0).history
    assert all(np.isfinite(value).all() for value in logs.values())
    assert all(np.isfinite(w).all() for w in numbers(d.student))


@pytest.mark.invariant(number=6)
@pytest.mark.parametrize("losses", [KD, DTKD])
def test_a_batch_of_one_sample_works(losses):
    d = Distiller(teacher(), student(), losses())
    logs = d.fit(X[:1], one_hot(Y[:1]), verbose=0).history
    assert all(np.isfinite(value).all() for value in logs.values())
