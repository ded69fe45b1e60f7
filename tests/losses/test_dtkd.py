"""DTKD equals its formula in every form, and what its forms differ in."""

import numpy as np
import pytest

from keras_dtkd.losses import DTKD
from keras_dtkd.temperatures import Dynamic
from tests import oracles
from tests.gradients import gradient, value_and_grad
from tests.logit_cases import (
    CASE,
    CASE_NAMES,
    CASES,
    assert_close,
    assert_equals_oracle,
    draw,
    values,
)
from tests.tensors import tensor

CLOSED = ("max", "centered", "std")
STOPS = (False, "weight", True)
MODES = [("exact", None), *((rule, stop) for rule in CLOSED for stop in STOPS)]
TAU = 4.0


def with_teacher(loss, teacher):
    return lambda student: loss(student, tensor(teacher))


def oracle(rule, stop, min_temperature=None):
    min_temperature = min_temperature or {"exact": TAU / 2}.get(rule, 0.1)
    return lambda student, teacher: oracles.dtkd(
        student, teacher, rule=rule, stop_gradient=stop, min_temperature=min_temperature
    )


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("case", CASE_NAMES)
@pytest.mark.parametrize("rule, stop", MODES)
def test_equals_the_formula(rule, stop, case):
    loss = DTKD(rule=rule, stop_gradient=stop)
    assert_equals_oracle(loss, oracle(rule, stop), CASES[case])


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("scale", [1.0, 0.1, 0.01])
def test_published_form_equals_the_authors_code(scale):
    """With gradient through both temperatures and their weight, for any student."""
    student = np.float64(np.float32(scale * CASE.student))
    case = CASE._replace(student=student)
    loss = DTKD.published(temperature=3.0, alpha=2.0, beta=0.5)
    assert_equals_oracle(
        loss, lambda s, t: oracles.published_dtkd(s, t, 3.0, 2.0, 0.5), case
    )


def test_published_form_has_the_authors_constants():
    loss = DTKD.published()
    rule = loss.temperature
    assert (loss.alpha, loss.beta, loss.warmup_epochs, loss.weight) == (3, 1, 20, 1)
    assert (rule.rule, rule.stop_gradient, rule.min_temperature) == ("max", False, None)
    assert float(rule.temperature) == 4.0


def test_the_default_is_the_exact_rule_with_a_twelfth_of_warmup():
    loss = DTKD()
    rule = loss.temperature
    assert (loss.alpha, loss.beta, loss.warmup_epochs, loss.weight) == (3, 1, "auto", 1)
    assert (rule.rule, rule.stop_gradient, rule.min_temperature) == (
        "exact",
        None,
        "auto",
    )
    assert float(rule.temperature) == 4.0


def test_gradients_equal_the_reference_for_small_student_logits():
    """Logits so flat that float32 has the exact temperatures to 1e-4 only."""
    case = draw((8, 100), student=0.3)
    loss = DTKD(min_temperature=0.1)
    assert_equals_oracle(loss, oracle("exact", None, 0.1), case, tolerance=2e-5)


def test_exact_gradient_is_the_teachers_temperature_times_the_difference():
    loss = DTKD(alpha=1.0, beta=0.0)
    t_student, t_teacher = oracles.temperatures(*CASE[:2], TAU, "exact", TAU / 2)
    q = oracles.softmax(CASE.student / t_student)
    p = oracles.softmax(CASE.teacher / t_teacher)
    slope = gradient(with_teacher(loss, CASE.teacher), CASE.student)
    assert_close(slope, t_teacher * (q - p))


def test_published_gradient_drifts_in_the_direction_that_changes_no_probability():
    for loss, drifts in ((DTKD.published(beta=0.0), True), (DTKD(beta=0.0), False)):
        slope = gradient(with_teacher(loss, CASE.teacher), CASE.student)
        drift = np.abs(slope.sum(-1))
        assert (drift > 0.01).all() if drifts else (drift < 1e-4).all()


# The degenerate min_temperature. A student that ranks the classes nearly as its teacher
# does, and whose logits shrink: only their scale changes, never the ranking.
ALIGNED = 0.5 * CASE.teacher + CASE.student
SCALES = (1.0, 0.3, 0.1, 0.01, 1e-3, 1e-4)


def shrinking(loss):
    """The loss, and its slope as the logits grow, at each scale: `(scales, batch)`."""
    results = [
        value_and_grad(with_teacher(loss, CASE.teacher), scale * ALIGNED)
        for scale in SCALES
    ]
    return tuple(
        np.stack(rows)
        for rows in zip(
            *(
                (value, (slope * scale * ALIGNED).sum(-1))
                for scale, (value, slope) in zip(SCALES, results, strict=True)
            ),
            strict=True,
        )
    )


def test_published_loss_vanishes_with_the_students_logits_whatever_the_divergence():
    value, slope = shrinking(DTKD.published(alpha=1.0, beta=0.0))
    x, y = oracles.maximum(CASE.teacher), oracles.maximum(ALIGNED)
    # Where the logits vanish the divergence stays, and the weight T_s T_t goes.
    divergence = oracles.kl(CASE.teacher / (2 * TAU), ALIGNED * x / (2 * TAU * y))
    assert divergence.min() > 0.02
    assert_close(value[-1] / SCALES[-1], 4 * TAU**2 * (y / x)[:, 0] * divergence, 0.01)
    assert (value[-1] < 1e-2 * value[0]).all()
    # Each step downhill shrinks the logits further, in proportion to the loss.
    assert (slope[2:] > 0).all()
    assert_close(slope[-1] / value[-1], 1.0, 0.01)


def test_a_stopped_weight_removes_the_degenerate_minimum():
    loss = DTKD(
        alpha=1.0, beta=0.0, rule="max", stop_gradient="weight", min_temperature=None
    )
    value, slope = shrinking(loss)
    assert (np.abs(slope[-1]) < 1e-2 * value[-1]).all()


def test_exact_loss_does_not_vanish_and_makes_vanishing_logits_grow():
    value, slope = shrinking(DTKD(alpha=1.0, beta=0.0))
    uniform = np.zeros_like(ALIGNED)
    limit = 2.0 * 6.0 * oracles.kl(CASE.teacher / 6.0, uniform)
    assert_close(value[-1], limit, 0.01, limit)
    assert limit.min() > 0.05
    assert (slope[-2:] < 0).all()


def test_beta_term_alone_equals_kd():
    expected = 0.5 * oracles.kd(*CASE[:2])
    assert_close(values(DTKD(alpha=0.0, beta=0.5)), expected, 1e-5, expected)


def test_tau_may_be_any_temperature():
    """Both terms then take that rule's temperatures for their centre."""
    loss = DTKD(temperature=Dynamic(3.0, "std"), alpha=0.0, beta=1.0)
    expected = oracles.dtkd(*CASE[:2], 3.0, 1.0, 0.0, rule="std", stop_gradient=True)
    assert_close(values(loss), expected, 1e-5, expected)


def test_teacher_gradient_of_the_exact_rule_passes_only_through_the_targets():
    loss = DTKD(alpha=1.0, beta=0.0)
    t_student, t_teacher = oracles.temperatures(*CASE[:2], TAU, "exact", TAU / 2)

    def fixed(teacher):
        student = CASE.student / t_student
        return (t_student * t_teacher)[:, 0] * oracles.kl(teacher / t_teacher, student)

    slope = gradient(lambda teacher: loss(tensor(CASE.student), teacher), CASE.teacher)
    assert_close(slope, oracles.gradient(fixed, CASE.teacher), 2e-5)
