"""The four dynamic rules equal their formulas, under every stop-gradient.

Compiled, the same is shown of the loss made of them, in losses/test_dtkd.py.
"""

import numpy as np
import pytest

from keras_dtkd.temperatures import Dynamic, Temperature, TemperaturePair
from tests import oracles
from tests.gradients import value_and_grad
from tests.logit_cases import (
    CASE_NAMES,
    CASES,
    FLOAT32_NAMES,
    STACKED,
    assert_close,
    assert_equals_oracle,
    draw,
    temperatures,
)
from tests.tensors import tensors

CLOSED = ("max", "centered", "std")
RULES = ("exact", *CLOSED)
STOPS = (False, "weight", True)
MODES = [("exact", None), *((rule, stop) for rule in CLOSED for stop in STOPS)]
TAU = 4.0


def together(student, teacher, weight):
    """One number a sample, in which each of the three shows."""
    return student[..., 0] + 3.0 * teacher[..., 0] + 0.5 * weight


def ours(rule):
    return lambda student, teacher: together(*rule(student, teacher))


def theirs(rule, stop, min_temperature=0.1):
    def oracle(student, teacher):
        t = oracles.temperatures(student, teacher, TAU, rule, min_temperature)
        if stop is True or rule == "exact":
            t = [oracles.constant(z) for z in t]
        weight = (t[0] * t[1])[..., 0]
        return together(*t, oracles.constant(weight) if stop == "weight" else weight)

    return oracle


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("case", CASE_NAMES)
@pytest.mark.parametrize("rule, stop", MODES)
def test_equals_the_formula(rule, stop, case):
    dynamic = Dynamic(TAU, rule, stop, min_temperature=0.1)
    assert_equals_oracle(ours(dynamic), theirs(rule, stop), CASES[case])


@pytest.mark.invariant(number=5)
def test_published_form_equals_the_authors_code():
    case = draw((8, 100), student=0.5, seed=3)
    dynamic = Dynamic(TAU, "max", False, min_temperature=None)

    def authors(student, teacher):
        t = oracles.published_temperatures(student, teacher, TAU)
        return together(*t, (t[0] * t[1])[..., 0])

    assert_equals_oracle(ours(dynamic), authors, case)


def test_published_form_keeps_a_vanishing_students_digits():
    case = draw((8, 100))
    student = np.float64(np.float32(1e-4 * case.student))
    given = temperatures(
        Dynamic(TAU, "max", min_temperature=None), student, case.teacher
    )
    expected, _ = oracles.published_temperatures(student, case.teacher, TAU)
    assert expected.max() < 1e-3
    assert np.abs(given[0] / expected - 1).max() < 1e-5


def test_published_form_equalises_the_greatest_scaled_logit_and_not_sharpness():
    case = draw((8, 100))
    t_student, t_teacher, _ = temperatures(
        Dynamic(TAU, "max", min_temperature=None), case.student, case.teacher
    )
    u, v = case.teacher / t_teacher, case.student / t_student
    assert_close(v.max(-1), u.max(-1))
    # The erratum of the README: what is left is the ratio of the top probabilities.
    residual = oracles.logsumexp(u) - oracles.logsumexp(v)
    ratio = oracles.softmax(v).max(-1) / oracles.softmax(u).max(-1)
    assert_close(residual[:, 0], np.log(ratio), 1e-6)
    assert np.abs(residual).max() > 0.1


def test_delta_of_the_authors_erratum_gives_negative_temperatures():
    u, v = STACKED.teacher[:8], STACKED.student[:8]
    delta = ((u - v) / (u + v) * TAU).max(-1)
    assert ((TAU - delta <= 0) | (TAU + delta <= 0)).all()


def test_without_positive_maxima_the_max_rule_uses_centered_maxima():
    case = CASES["no positive maximum"]
    authors, _ = oracles.published_temperatures(case.student, case.teacher, TAU)
    positive = (case.student.max(-1) > 0) & (case.teacher.max(-1) > 0)
    assert not positive.any() and (authors < 0).any() and (authors > 2 * TAU).any()
    ours, centered = (
        temperatures(Dynamic(TAU, rule), case.student, case.teacher)
        for rule in ("max", "centered")
    )
    for one, other in zip(ours, centered, strict=True):
        assert_close(one, other, 1e-6)


@pytest.mark.invariant(number=6)
@pytest.mark.parametrize("case", FLOAT32_NAMES)
@pytest.mark.parametrize("min_temperature", [None, 0.1, 3.0])
@pytest.mark.parametrize("rule", RULES)
def test_temperatures_are_positive_and_have_the_mean_tau(rule, min_temperature, case):
    case = CASES[case]
    t_student, t_teacher, weight = temperatures(
        Dynamic(TAU, rule, min_temperature=min_temperature), case.student, case.teacher
    )
    assert t_student.shape == t_teacher.shape == (*case.student.shape[:-1], 1)
    assert weight.shape == case.student.shape[:-1]
    assert min(t_student.min(), t_teacher.min()) > 0
    assert min(t_student.min(), t_teacher.min()) >= (min_temperature or 0) - 1e-6
    assert_close(t_student + t_teacher, 2 * TAU, 2e-6)
    assert_close(weight, (t_student * t_teacher)[..., 0], 2e-6, weight)


@pytest.mark.parametrize("rule", RULES)
def test_equal_models_both_get_tau(rule):
    t_student, t_teacher, weight = temperatures(
        Dynamic(TAU, rule), STACKED.teacher, STACKED.teacher
    )
    assert_close(t_student, TAU, 2e-6)
    assert_close(t_teacher, TAU, 2e-6)
    assert_close(weight, TAU**2, 2e-5)


@pytest.mark.parametrize("rule", RULES)
def test_a_teacher_of_twice_the_logits_gets_twice_the_temperature(rule):
    student = np.abs(draw((8, 100)).student)
    t_student, t_teacher, _ = temperatures(Dynamic(TAU, rule), student, 2 * student)
    assert_close(t_teacher / t_student, 2.0)


@pytest.mark.invariant(number=6)
@pytest.mark.parametrize("rule", RULES)
def test_a_sample_whose_classes_are_all_masked_has_finite_temperatures(rule):
    case = draw((8, 100))
    case.student[0] = -1e9
    # Each model masks what the other leaves.
    case.student[1, :50] = case.teacher[1, 50:] = -1e9
    for t in temperatures(Dynamic(TAU, rule), *case[:2]):
        assert np.isfinite(t).all()


@pytest.mark.parametrize("rule", RULES)
def test_a_learned_tau_gets_its_gradient(rule):
    """T_s, T_t and their product grow with τ by T_s/τ, T_t/τ and 2 T_s T_t/τ."""

    class Given(Temperature):
        def call(self, student_logits, teacher_logits):
            return TemperaturePair(self.tau, self.tau, self.tau[..., 0] ** 2)

    case, given = draw((8, 100)), Given()
    dynamic = Dynamic(given, rule, min_temperature=None)
    student, teacher = tensors(*case[:2])

    def of_tau(tau):
        given.tau = tau
        return together(*dynamic(student, teacher))

    _, gradient = value_and_grad(of_tau, np.full((8, 1), TAU))
    t = oracles.temperatures(*case[:2], TAU, rule)
    expected = together(*t, 2 * (t[0] * t[1])[..., 0]) / TAU
    assert_close(gradient[:, 0], expected, 2e-5)


def test_both_temperatures_are_tau_where_tau_is_below_the_bound():
    dynamic = Dynamic(4.0, "std", min_temperature=1.0)
    dynamic.temperature = 0.5
    t_student, t_teacher, _ = temperatures(dynamic, *draw((8, 100))[:2])
    assert_close(t_student, 0.5, 1e-6)
    assert_close(t_teacher, 0.5, 1e-6)


def test_auto_is_half_of_tau_under_exact_and_follows_it():
    case = draw((8, 100), student=0.1)
    for rule, bound in (("exact", 2.0), ("std", 0.1)):
        given = temperatures(Dynamic(TAU, rule, min_temperature="auto"), *case[:2])
        plain = temperatures(Dynamic(TAU, rule, min_temperature=bound), *case[:2])
        for one, other in zip(given, plain, strict=True):
            assert np.array_equal(one, other)
    dynamic = Dynamic(TAU, min_temperature="auto")
    dynamic.temperature = 1.0
    t_student, t_teacher, _ = temperatures(dynamic, *case[:2])
    assert_close(t_student, 0.5, 1e-6)
    assert_close(t_teacher, 1.5, 1e-6)
    dynamic.min_temperature = 0.25
    assert_close(temperatures(dynamic, *case[:2])[0], 0.25, 1e-6)


def test_collapse_threshold_is_above_the_bound_and_two_percent_of_tau():
    assert Dynamic(4.0, min_temperature=0.2).collapse_threshold() == pytest.approx(0.3)
    assert Dynamic(4.0, min_temperature=None).collapse_threshold() == pytest.approx(
        0.08
    )
    assert Dynamic(
        4.0, "std", min_temperature="auto"
    ).collapse_threshold() == pytest.approx(0.15)


def test_collapse_threshold_is_zero_for_a_high_bound():
    assert Dynamic(4.0, min_temperature="auto").collapse_threshold() == 0.0
    assert Dynamic(4.0, "max", min_temperature=1.0).collapse_threshold() == 0.0
