"""The exact rule leaves no difference in sharpness, in float32, on hard cases too."""

import numpy as np
import pytest
from keras import ops

from keras_dtkd.temperatures.equal_sharpness import equal_sharpness
from tests import oracles
from tests.logit_cases import CASES, FLOAT32_NAMES, assert_close, draw, rounded

TAU = 4.0


def solve(student, teacher, min_temperature=0.1, tau=TAU):
    """Ours, `(T_s, T_t)` as float64."""
    given = equal_sharpness(
        *(ops.convert_to_tensor(z, "float32") for z in (student, teacher)),
        tau,
        min_temperature,
    )
    return [np.asarray(ops.convert_to_numpy(t), "float64") for t in reversed(given)]


def difference(student, teacher, t_student, t_teacher):
    return oracles.sharpness(teacher / t_teacher) - oracles.sharpness(
        student / t_student
    )


def assert_equally_sharp(student, teacher, tolerance=1e-4, **kwargs):
    """Equal wherever the bound allows a solution, which it must somewhere."""
    min_temperature = kwargs.get("min_temperature", 0.1)
    t_student, t_teacher = solve(student, teacher, **kwargs)
    expected, _ = oracles.equal_sharpness(student, teacher, TAU, min_temperature)
    inside = (expected > 1.001 * min_temperature) & (
        expected < 2 * TAU - 1.001 * min_temperature
    )
    assert inside.any()
    # The sharpness of float32 logits has no more digits than they have.
    size = np.maximum(1.0, np.abs(student / t_student).max(-1, keepdims=True) / 100)
    left = np.abs(difference(student, teacher, t_student, t_teacher)) / size
    assert left[inside].max() < tolerance
    if not inside.all():
        assert_close(t_student[~inside], expected[~inside], 1e-3)
    assert_close(t_student + t_teacher, 2 * TAU, 2e-6)


def peaked(classes, height, spread, seed, samples=256):
    """What a trained network gives: one class above the others."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(samples, classes))
    z[np.arange(samples), rng.integers(0, classes, samples)] += rng.normal(
        height, spread, samples
    )
    return rounded(z)


def test_trained_networks():
    """Set B of the notes on the paper."""
    assert_equally_sharp(peaked(100, 8, 3, 1), peaked(100, 12, 3, 2), 1e-5)


@pytest.mark.parametrize("scale", [0.3, 0.03])
def test_an_untrained_student(scale):
    """Small logits; the min_temperature is small enough not to be the answer."""
    student = rounded(scale * draw((256, 100), student=1.0).student)
    teacher = peaked(100, 12, 3, 2)
    t_student, _ = oracles.equal_sharpness(student, teacher, TAU, 1e-3)
    assert 1e-2 < t_student.min() and t_student.max() < TAU / 2
    assert_equally_sharp(student, teacher, 1e-5, min_temperature=1e-3)


def test_an_untrained_student_gets_the_bound():
    student = rounded(0.003 * draw((256, 100), student=1.0).student)
    t_student, t_teacher = solve(student, peaked(100, 12, 3, 2))
    assert_close(t_student, 0.1, 1e-6)
    assert_close(t_teacher, 7.9, 1e-6)


def test_a_thousand_classes():
    """Set D, on which the published rule is worse than equal temperatures."""
    assert_equally_sharp(peaked(1000, 10, 1, 1), peaked(1000, 14, 1, 2), 1e-5)


def test_two_classes():
    """There the solution has a closed form: each model's distance of its logits."""
    case = draw((256, 2))
    t_student, t_teacher = solve(case.student, case.teacher, min_temperature=1e-3)
    student, teacher = (np.abs(np.diff(z, axis=-1)) for z in case[:2])
    assert_close(t_student, 2 * TAU * student / (student + teacher), 2e-4)
    assert_equally_sharp(*case[:2], 1e-5, min_temperature=1e-3)


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("name", FLOAT32_NAMES)
def test_temperatures_equal_those_of_bisection(name):
    student, teacher = CASES[name][:2]
    expected = oracles.equal_sharpness(student, teacher, TAU, 0.1)
    for actual, wanted in zip(solve(student, teacher), expected, strict=True):
        assert_close(actual, wanted)


def one_hot(rng, samples, classes, scale):
    z = 1e-3 * rng.normal(size=(samples, classes))
    z[np.arange(samples), rng.integers(0, classes, samples)] += 1.0
    return scale * z


def sunk(rng, samples, classes, scale):
    return -one_hot(rng, samples, classes, scale)


def two_levels(rng, samples, classes, scale):
    z = rng.choice([-1.0, 1.0], (samples, classes))
    z[:, :2] = 1.0, -1.0
    return scale * z


def heavy(rng, samples, classes, scale):
    return scale * rng.standard_cauchy((samples, classes)).clip(-100, 100)


def gaussian(rng, samples, classes, scale):
    return scale * rng.normal(size=(samples, classes))


SHAPES = (one_hot, sunk, two_levels, heavy, gaussian)


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_any_pair_of_shapes_and_sizes(classes):
    """Where the start by standard deviations is far off, by log √classes."""
    rng = np.random.default_rng(classes)
    student, teacher = [], []
    for one in SHAPES:
        for other in SHAPES:
            for side, shape in ((student, one), (teacher, other)):
                scale = np.exp(rng.uniform(np.log(0.03), np.log(60), (16, 1)))
                side.append(rounded(shape(rng, 16, classes, scale)))
    assert_equally_sharp(np.concatenate(student), np.concatenate(teacher))


@pytest.mark.parametrize("scale", [1e-3, 1e-2, 0.1, 1.0, 10.0, 1e3])
def test_temperatures_are_proportional_for_proportional_logits(scale):
    teacher = peaked(100, 12, 3, 2)
    student = rounded(scale * teacher)
    t_student, t_teacher = solve(student, teacher, min_temperature=1e-3)
    assert np.abs(t_student / t_teacher / scale - 1).max() < 1e-4


def test_the_sharper_model_gets_the_higher_temperature():
    student, teacher = peaked(100, 8, 3, 1), peaked(100, 12, 3, 2)
    t_student, t_teacher = solve(student, teacher)
    sharper = difference(student, teacher, TAU, TAU) > 0
    assert sharper.any() and not sharper.all()
    assert np.array_equal(t_teacher > t_student, sharper)


def test_temperatures_are_at_the_bound_if_one_model_is_constant():
    constant, other = np.full((8, 100), 0.5), draw((8, 100)).teacher
    t_student, _ = solve(constant, other)
    assert_close(t_student, 0.1, 1e-6)
    t_student, _ = solve(other, constant)
    assert_close(t_student, 7.9, 1e-6)


def test_two_constant_models_both_get_tau():
    t_student, t_teacher = solve(np.full((8, 100), 0.5), np.full((8, 100), -3.0))
    assert_close(t_student, TAU, 1e-6)
    assert_close(t_teacher, TAU, 1e-6)


@pytest.mark.parametrize("mask", [-1e9, -np.inf])
def test_masked_classes_are_ignored(mask):
    student, teacher = peaked(100, 8, 3, 1), peaked(100, 12, 3, 2)
    kept = np.arange(100) % 7 != 0
    masked = [np.where(kept, z, mask) for z in (student, teacher)]
    left = [z[:, kept] for z in (student, teacher)]
    for actual, expected in zip(
        solve(*masked), oracles.equal_sharpness(*left, TAU, 0.1), strict=True
    ):
        assert_close(actual, expected, 1e-4)


def test_each_sample_may_have_its_own_tau_and_bound():
    case = draw((8, 100))
    tau, min_temperature = (
        np.linspace(1, 8, 8)[:, None],
        np.linspace(0.1, 0.9, 8)[:, None],
    )
    actual, _ = solve(
        *case[:2],
        *(ops.convert_to_tensor(z, "float32") for z in (min_temperature, tau)),
    )
    expected, _ = oracles.equal_sharpness(*case[:2], tau, min_temperature)
    assert_close(actual, expected)
