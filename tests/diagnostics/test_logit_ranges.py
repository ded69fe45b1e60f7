"""Ranges of logits, and DTKD's published rule on them."""

import keras
import numpy as np
import pytest

from keras_dtkd import diagnose
from keras_dtkd.diagnostics.logit_ranges import (
    check_dtkd_rule,
    compute_dtkd_statistics,
    compute_logit_statistics,
)
from keras_dtkd.losses import DTKD, KD
from keras_dtkd.temperatures import Dynamic
from tests import oracles, tiny_models

EXACT = {"dtkd": DTKD()}
PUBLISHED = {"dtkd": DTKD.published()}
STOPPED = {"kd": KD(Dynamic(rule="max", stop_gradient="weight"))}


def random_logits(student=1.0, teacher=5.0, shift=0.0):
    rng = np.random.default_rng(0)
    s, t = (oracles.centered(rng.normal(size=(256, 10))) for _ in range(2))
    s, t = student * s + shift, teacher * t
    return {"student": s.astype("float32"), "teacher": t.astype("float32")}


def dtkd_issues(logits, losses):
    statistics = compute_dtkd_statistics(logits, losses)
    return {i.code: i.severity for i in check_dtkd_rule(statistics, losses)}


@pytest.mark.parametrize("losses", [EXACT, PUBLISHED, STOPPED])
def test_healthy_logits_have_no_issue(losses):
    assert dtkd_issues(random_logits(), losses) == {}


@pytest.mark.parametrize(
    "losses, expected",
    [
        (EXACT, {}),
        (PUBLISHED, {"dtkd_invalid": "warning"}),
        (STOPPED, {"dtkd_invalid": "warning"}),
    ],
)
def test_undefined_rule_is_an_issue_only_for_its_users(losses, expected):
    logits = random_logits(shift=-10.0)
    assert compute_dtkd_statistics(logits, losses)["invalid_share"] == 1.0
    assert dtkd_issues(logits, losses) == expected


@pytest.mark.parametrize(
    "losses, expected",
    [(EXACT, {}), (PUBLISHED, {"dtkd_degenerate": "warning"}), (STOPPED, {})],
)
def test_degenerate_minimum_is_an_issue_only_for_losses_that_can_reach_it(
    losses, expected
):
    logits = random_logits(student=0.001)
    statistics = compute_dtkd_statistics(logits, losses)
    is_below = statistics["student_temperature_mean"] < statistics["floor"]
    # The default has a lower bound, of τ/2.
    assert is_below == (losses is not EXACT)
    assert dtkd_issues(logits, losses) == expected


def test_temperatures_equal_the_published_formula():
    logits = random_logits()
    x, y = logits["teacher"].max(-1), logits["student"].max(-1)
    expected = 8 * y / (x + y)
    statistics = compute_dtkd_statistics(logits, STOPPED)
    for name, value in (("mean", expected.mean()), ("min", expected.min())):
        actual = statistics[f"student_temperature_{name}"]
        np.testing.assert_allclose(actual, value, rtol=1e-5)
    assert statistics["floor"] == pytest.approx(0.15)


@pytest.mark.parametrize("losses", [EXACT, {"kd": KD()}])
def test_temperatures_are_those_of_the_default_unless_another_is_used(losses):
    logits = random_logits()
    temperatures = DTKD().temperature(logits["student"], logits["teacher"])
    statistics = compute_dtkd_statistics(logits, losses)
    for role in ("student", "teacher"):
        values = keras.ops.convert_to_numpy(getattr(temperatures, role))
        for name, value in (("mean", values.mean()), ("min", values.min())):
            actual = statistics[f"{role}_temperature_{name}"]
            np.testing.assert_allclose(actual, value, rtol=1e-5)


def test_masked_classes_are_ignored():
    statistics = compute_logit_statistics(
        np.array([[1.0, 3.0, -1e9], [2.0, 4.0, -np.inf]])
    )
    expected = {"min": 1.0, "max": 4.0, "mean": 2.5, "std": 1.0, "shift": 2.5}
    assert statistics == expected


def issues_of(teacher, loss):
    report = diagnose(
        teacher, tiny_models.student(), tiny_models.data(), loss, verbose=0
    )
    return {issue.code: issue.severity for issue in report.issues}


@pytest.mark.parametrize(
    "dtype, severity", [("float32", "info"), ("float16", "warning")]
)
def test_logits_near_the_maximum_of_float16(dtype, severity):
    teacher = tiny_models.teacher(dtype=dtype, scale=6000.0)
    assert issues_of(teacher, DTKD())["logit_overflow"] == severity


@pytest.mark.parametrize(
    "loss, severity", [(DTKD(), "info"), (DTKD.published(), "warning")]
)
def test_common_shift_is_a_warning_only_for_the_published_rule(loss, severity):
    teacher = tiny_models.teacher()
    teacher.layers[-1].bias.assign(np.full(4, 50.0))
    assert issues_of(teacher, loss)["uncentered_logits"] == severity
