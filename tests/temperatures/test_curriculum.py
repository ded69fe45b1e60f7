"""CTKD's learned temperature: its values and arguments.

How it trains is in test_curriculum_training.py.
"""

import numpy as np
import pytest
from keras import ops

from keras_dtkd.losses import DTKD, KD
from keras_dtkd.temperatures import Curriculum, Temperature, TemperaturePair
from tests import oracles_temperatures as oracles
from tests.gradients import value_and_grad
from tests.logit_cases import (
    CASE,
    CASE_NAMES,
    CASES,
    assert_close,
    assert_equals_oracle,
    draw,
    temperatures,
)
from tests.tensors import tensors

START = oracles.curriculum(1.0)


def with_layers(classes, seed=0, **arguments):
    """A temperature per sample whose dense layers have random weights; the weights."""
    rule = Curriculum(per_sample=True, hidden=5, **arguments)
    zeros = ops.zeros((1, classes))
    rule(zeros, zeros)
    rng = np.random.default_rng(seed)
    thetas = rule.variables_without_weight_decay()
    for layer, theta in zip(rule._reversed_weights, thetas, strict=True):
        layer.offset.assign(rng.normal(size=theta.shape))
    return rule, [np.asarray(w, "float64") for w in rule.raw_temperature]


def ours(rule):
    return lambda student, teacher: oracles.together(*rule(student, teacher))


@pytest.mark.parametrize("raw", [1.0, -3.0, 12.0])
def test_equals_the_formula(raw):
    tau = oracles.curriculum(raw, 1.5, 10.0)
    given = temperatures(Curriculum(1.5, 10.0, initial_raw=raw), *CASE[:2])
    assert_close(given, [tau, tau, tau**2], 1e-6, tau**2)


def test_starts_at_the_papers_temperature():
    assert_close(temperatures(Curriculum(), *CASE[:2])[0], 15.6212, 1e-4)
    assert Curriculum().raw_temperature == 1.0


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("case", CASE_NAMES)
def test_per_sample_equals_the_formula_without_gradient(case):
    rule, weights = with_layers(CASES[case].student.shape[-1])

    def oracle(student, teacher):
        tau = oracles.per_sample_curriculum(student, teacher, *weights)
        return oracles.together(tau, tau, tau[..., 0] ** 2)

    assert_equals_oracle(ours(rule), oracle, CASES[case])


def low(per_sample):
    """A rule and its τ. At 15, float32 leaves τ² KL less than five digits."""
    if not per_sample:
        tau = oracles.curriculum(1.0, temperature_span=4.0)
        return Curriculum(temperature_span=4.0), lambda student, teacher: tau
    rule, weights = with_layers(100, temperature_span=4.0)
    return rule, lambda student, teacher: oracles.per_sample_curriculum(
        student, teacher, *weights, temperature_span=4.0
    )


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("per_sample", [False, True])
def test_a_loss_equals_the_formula(per_sample):
    rule, tau = low(per_sample)
    assert_equals_oracle(
        KD(rule),
        lambda student, teacher: oracles.kd_at(tau(student, teacher), student, teacher),
        CASE,
    )


@pytest.mark.parametrize("classes", [2, 100])
def test_per_sample_starts_with_the_same_temperature_for_all(classes):
    rule = Curriculum(per_sample=True)
    t, _, weight = temperatures(rule, *draw((8, classes))[:2])
    assert t.shape == (8, 1) and weight.shape == (8,)
    assert_close(t, START, 1e-5, START)


def test_dense_layers_are_initialized_from_the_seed():
    def kernel(seed):
        rule = Curriculum(per_sample=True, seed=seed)
        rule(*tensors(*CASE[:2]))
        return rule.raw_temperature[0]

    assert np.array_equal(kernel(3), kernel(3))
    assert not np.array_equal(kernel(3), kernel(4))
    assert kernel(3).std() > 0.01


@pytest.mark.parametrize("per_sample", [False, True])
def test_the_students_gradient_is_not_reversed(per_sample):
    """It is that of a constant of the same temperatures."""
    rule = with_layers(100)[0] if per_sample else Curriculum()
    t, _, _ = temperatures(rule, *CASE[:2])

    class Same(Temperature):
        def call(self, student_logits, teacher_logits):
            (tau,) = tensors(t)
            return TemperaturePair(tau, tau, tau[..., 0] ** 2 if per_sample else tau**2)

    (teacher,) = tensors(CASE.teacher)
    learned, constant = (
        value_and_grad(lambda z, loss=loss: loss(z, teacher), CASE.student)
        for loss in (KD(rule), KD(Same()))
    )
    assert_close(learned[0], constant[0], 1e-6, constant[0])
    assert_close(learned[1], constant[1], 1e-6)
    assert np.abs(constant[1]).max() > 1e-3


@pytest.mark.parametrize("per_sample", [False, True])
def test_works_as_the_tau_of_dtkd(per_sample):
    rule, tau = low(per_sample)
    tau = tau(*CASE[:2])
    dynamic = DTKD(rule, rule="std").temperature
    t = dynamic(*tensors(*CASE[:2]))
    mean = 0.5 * ops.convert_to_numpy(t.student + t.teacher)
    assert_close(mean, tau, 1e-5, tau)
    assert (
        dynamic.variables_without_weight_decay()
        == rule.variables_without_weight_decay()
    )
    values = DTKD(rule, alpha=0.0)(*tensors(*CASE[:2]))
    expected = oracles.kd_at(tau, *CASE[:2])
    assert_close(ops.convert_to_numpy(values), expected, 1e-5, expected)


# λ.


def step_scale(rule):
    return float(ops.convert_to_numpy(rule._reversed_weights[0].step_scale))


def test_lambda_follows_equation_11():
    published = [0.0245, 0.0955, 0.206, 0.345, 0.5, 0.655, 0.794, 0.905, 0.976, 1]
    rule = Curriculum()
    lambdas = [rule.lambda_at(n) for n in range(1, 12)]
    assert_close(lambdas, [*published, 1], 6e-4)
    expected = [oracles.lambda_at(n) for n in range(1, 12)]
    assert_close(lambdas, expected, 1e-12)


def test_an_epoch_sets_the_step_scale_to_lambda_times_learning_rate():
    rule = Curriculum(epochs=4, lambda_range=(0.2, 0.8), learning_rate=5.0)
    for epoch in (1, 2, 4, 9):
        rule.on_epoch_begin(epoch, 20)
        expected = 5.0 * oracles.lambda_at(epoch, 4, 0.2, 0.8)
        assert_close(step_scale(rule), expected, 1e-6)


def test_step_scale_before_the_first_epoch_is_the_learning_rate():
    assert step_scale(Curriculum()) == 1.0
    assert step_scale(Curriculum(learning_rate=3.0)) == 3.0


def test_a_new_learning_rate_is_used_from_the_next_epoch():
    rule = Curriculum(lambda_range=(1.0, 1.0))
    rule.learning_rate = 4.0
    rule.on_epoch_begin(2, 20)
    assert step_scale(rule) == 4.0


def test_new_bounds_are_used_at_once():
    rule = Curriculum()
    rule.min_temperature, rule.temperature_span = 2.0, 4.0
    tau = oracles.curriculum(1.0, 2.0, 4.0)
    assert_close(temperatures(rule, *CASE[:2])[0], tau, 1e-6)


# Arguments.


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
@pytest.mark.parametrize("name", ["initial_raw", "per_sample"])
def test_what_its_weights_were_made_from_cannot_be_changed(name):
    rule = Curriculum()
    with pytest.raises(AttributeError, match=name):
        setattr(rule, name, 2)
    assert Curriculum.from_config(rule.get_config()).initial_raw == 1.0
