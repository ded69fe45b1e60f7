"""CTKD's temperature in training: it ascends the loss, with its own step scale."""

import keras
import numpy as np
import pytest

from keras_dtkd.losses import DTKD, KD
from keras_dtkd.temperatures import Curriculum
from tests import oracles_temperatures as oracles
from tests.logit_cases import assert_close
from tests.oracles import dtkd
from tests.tiny_models import CLASSES, data, distiller, same, student, teacher

X, Y = data(32)
FULL = (1.0, 1.0)


def logits(model):
    return np.asarray(keras.ops.convert_to_numpy(model(X)), "float64")


def array(variable):
    return np.array(keras.ops.convert_to_numpy(variable))


def layers(seed=0, **arguments):
    """A temperature per sample, of 3 hidden units with random weights."""
    rule = Curriculum(per_sample=True, hidden=3, **arguments)
    zeros = keras.ops.zeros((1, CLASSES))
    rule(zeros, zeros)
    rng = np.random.default_rng(seed)
    for part in rule._reversed_weights:
        part.offset.assign(0.5 * rng.normal(size=part.offset.shape))
    return rule


def whole(raw, soft, hard):
    return oracles.kd_at(oracles.curriculum(raw), soft, hard).mean()


def test_one_step_of_sgd_adds_the_gradient_to_what_it_learns():
    rules = {"kd": Curriculum(), "dtkd": Curriculum(initial_raw=-1.5), "each": layers()}
    d = distiller(
        {
            "kd": KD(rules["kd"]),
            "dtkd": DTKD(rules["dtkd"], rule="std"),
            "each": KD(rules["each"]),
        },
        keras.optimizers.SGD(1.0),
    )
    soft, hard = logits(d.student), logits(d.teacher)
    start = [np.asarray(w, "float64") for w in rules["each"].raw_temperature]
    d.train_on_batch(X, Y)

    def of_dtkd(raw):
        tau = oracles.curriculum(raw)
        return dtkd(soft, hard, tau, rule="std", stop_gradient=False).mean()

    def moved(rule):
        return [array(theta) for theta in rule.variables_without_weight_decay()]

    expected = oracles.gradient_of(lambda raw: whole(raw, soft, hard), 1.0)
    assert_close(moved(rules["kd"]), [expected])
    assert_close(rules["kd"].raw_temperature, 1.0 + expected)
    expected = oracles.gradient_of(of_dtkd, -1.5)
    assert_close(moved(rules["dtkd"]), [expected], 1e-5, abs(expected))
    for i, theta in enumerate(moved(rules["each"])):

        def of_part(part, i=i):
            weights = [*start[:i], part, *start[i + 1 :]]
            tau = oracles.per_sample_curriculum(soft, hard, *weights)
            return oracles.kd_at(tau, soft, hard).mean()

        expected = oracles.gradient_of(of_part, start[i])
        assert np.abs(expected).max() > 1e-3
        assert_close(theta, expected)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_ascent_steps_scale_with_lambda(optimizer):
    rules = {
        "full": Curriculum(lambda_range=FULL),
        "delayed": Curriculum(),
        "slow": Curriculum(lambda_range=FULL, learning_rate=0.5),
        "frozen": Curriculum(lambda_range=(0.0, 0.0)),
        "each": Curriculum(lambda_range=FULL, per_sample=True, hidden=3),
        "each_delayed": Curriculum(per_sample=True, hidden=3),
    }
    make = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}[optimizer]
    d = distiller({name: KD(rule) for name, rule in rules.items()}, make(0.02))
    soft, hard = logits(d.student), logits(d.teacher)
    logs = d.fit(X, Y, batch_size=8, epochs=1, shuffle=False, verbose=0).history
    moved = {
        name: (rule.raw_temperature[-1][0] if rule.per_sample else rule.raw_temperature)
        - 1.0
        for name, rule in rules.items()
    }
    # Both students: the one at the start, and the one that has learned.
    for student_logits in (soft, logits(d.student)):
        before, after = (
            whole(raw, student_logits, hard)
            for raw in (1.0, rules["full"].raw_temperature)
        )
        assert after > before
    if optimizer == "adam":
        # Four steps of the optimizer's own rate.
        assert_close(abs(moved["full"]), 4 * 0.02, 0.01)
    lambda_ = oracles.lambda_at(1)
    for part, of, share in (
        ("delayed", "full", lambda_),
        ("slow", "full", 0.5),
        ("each_delayed", "each", lambda_),
    ):
        assert moved[of] != 0.0
        assert moved[part] / moved[of] == pytest.approx(share, rel=0.05), part
    assert rules["frozen"].raw_temperature == 1.0
    # Logged: the means over four batches, of which the first has the start.
    start = oracles.curriculum(1.0)
    assert_close(logs["frozen_student_temperature"], start, 1e-4)
    (mean,) = logs["student_temperature"]
    now = oracles.curriculum(rules["full"].raw_temperature)
    assert min(start, now) < mean < max(start, now)


def test_weight_decay_applies_only_if_not_excluded():
    rules = [
        Curriculum(),
        Curriculum(excluded_from_weight_decay=False),
        layers(),
        layers(excluded_from_weight_decay=False),
    ]
    # Of weight 0: nothing but the decay moves them.
    losses = {f"kd_{i}": KD(rule, weight=0.0) for i, rule in enumerate(rules)}
    d = distiller(losses, keras.optimizers.SGD(0.1, weight_decay=0.5))
    for rule in rules:
        for part in rule._reversed_weights:
            part.ascent_variable.assign(3.0 * np.ones(part.ascent_variable.shape))
    d.train_on_batch(X, Y)
    left = 3.0 * (1 - 0.1 * 0.5)
    for rule, expected in zip(rules, (3.0, left, 3.0, left), strict=True):
        for part in rule._reversed_weights:
            assert_close(array(part.ascent_variable), expected, 1e-6)
    assert rules[0].raw_temperature == 4.0
    assert rules[1].raw_temperature == pytest.approx(1.0 + left)


@pytest.mark.invariant(number=6)
def test_it_learns_in_float32_beside_a_float16_student():
    rules = [Curriculum(), layers()]
    small = student(dtype="mixed_float16")
    d = distiller({f"kd_{i}": KD(rule) for i, rule in enumerate(rules)}, student=small)
    soft, hard = logits(d.student), logits(d.teacher)
    d.train_on_batch(X, Y)
    expected = 0.01 * oracles.gradient_of(lambda raw: whole(raw, soft, hard), 1.0)
    assert expected != 0.0
    assert rules[0].raw_temperature - 1.0 == pytest.approx(expected, rel=0.02)
    for rule in rules:
        assert {v.dtype for v in rule.weights} == {"float32"}
    assert all(
        np.abs(array(v)).max() > 0 for v in rules[1].variables_without_weight_decay()
    )


@pytest.mark.invariant(number=8)
def test_a_loaded_run_continues_bit_for_bit(tmp_path):
    def run(d, start, stop):
        options = {"shuffle": False, "verbose": 0, "batch_size": 8}
        return d.fit(X, Y, initial_epoch=start, epochs=stop, **options).history

    losses = {
        "whole": KD(Curriculum(epochs=3)),
        "each": DTKD(Curriculum(epochs=3, per_sample=True, hidden=3), rule="std"),
    }
    decay = keras.optimizers.AdamW(0.02, weight_decay=0.1)
    d = distiller(losses, decay)
    run(d, 0, 2)
    d.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    assert same(d, loaded)
    loaded.teacher = teacher()
    logs = [run(model, 2, 4) for model in (d, loaded)]
    assert logs[0] == logs[1]
    assert same(d, loaded)
    optimizers = ([array(v) for v in m.optimizer.variables] for m in (d, loaded))
    assert same(*optimizers)
    rule = loaded.distillation_losses["whole"].temperature
    assert rule.raw_temperature == losses["whole"].temperature.raw_temperature != 1.0
    assert array(rule._reversed_weights[0].step_scale) == 1.0
