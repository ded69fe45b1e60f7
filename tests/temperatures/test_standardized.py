"""Logit standardization: z-scores divided by T, as a temperature rule."""

import warnings

import numpy as np
import pytest
from keras import ops

from keras_dtkd.losses import KD
from keras_dtkd.temperatures import CosineSimilarity, Standardized
from tests import oracles_temperatures as oracles
from tests.logit_cases import (
    CASE,
    CASE_NAMES,
    CASES,
    STACKED,
    assert_close,
    assert_equals_oracle,
    digits,
    draw,
    temperatures,
)
from tests.tensors import tensors

pytestmark = pytest.mark.filterwarnings("ignore:`Standardized`")

# Documented: what is added to the variance.
EPSILON = 1e-8


def ours(rule):
    return lambda student, teacher: oracles.together(*rule(student, teacher))


def theirs(student, teacher):
    count = student.shape[-1]
    t = oracles.standardized(student, teacher, 2.0, EPSILON * count / (count - 1))
    return oracles.together(*t, 4.0)


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("case", CASE_NAMES)
def test_equals_the_formula(case):
    assert_equals_oracle(ours(Standardized()), theirs, CASES[case])


@pytest.mark.invariant(number=5)
def test_loss_equals_the_authors_code():
    # Without the rows of equal logits, where the authors' σ is 0.
    rows = np.ptp(STACKED.student, -1) * np.ptp(STACKED.teacher, -1) > 0
    case = type(CASE)(STACKED.student[rows], STACKED.teacher[rows])
    assert_equals_oracle(
        KD(Standardized(2.0)),
        oracles.z_score_kd,
        case,
        scale=digits(case),
    )


@pytest.mark.invariant(number=2)
def test_neither_shift_nor_size_of_a_models_logits_changes_the_loss():
    loss = KD(Standardized())
    before = ops.convert_to_numpy(loss(*tensors(*CASE[:2])))
    after = loss(*tensors(4.0 * CASE.student + 16.0, 0.5 * CASE.teacher - 16.0))
    assert_close(ops.convert_to_numpy(after), before, 2e-5)


@pytest.mark.invariant(number=6)
def test_two_classes_have_the_distance_of_their_logits_over_root_two():
    case = CASES["2 classes"]
    t_student, _, _ = temperatures(Standardized(3.0), *case[:2])
    expected = 3.0 * np.abs(np.diff(case.student, axis=-1)) / np.sqrt(2)
    assert_close(t_student, expected)


@pytest.mark.invariant(number=6)
def test_equal_logits_have_the_smallest_temperature():
    flat = np.full((4, 100), 0.5)
    t_student, t_teacher, weight = temperatures(Standardized(2.0), flat, flat)
    assert_close(t_student, 2e-4, 2e-6)
    assert_close(t_teacher, 2e-4, 2e-6)
    assert weight == 4.0


@pytest.mark.invariant(number=6)
def test_all_is_finite_with_one_unmasked_class_or_none():
    case = draw((2, 100))
    case.student[0] = -1e9
    case.student[1, 1:] = -1e9
    for t in temperatures(Standardized(), *case[:2]):
        assert np.isfinite(t).all() and (t > 0).all()


def test_the_base_temperature_may_be_any_rule():
    rule = Standardized(CosineSimilarity())
    weights = np.array([1.0] * 6 + [0.0] * 2)
    t = oracles.cosine_similarity(*CASE[:2], counts=weights > 0)
    sigmas = oracles.standardized(*CASE[:2], 1.0)
    given = temperatures(rule, *CASE[:2], weights)
    for one, sigma in zip(given, sigmas, strict=False):
        assert_close(one[:6], (t[:, None] * sigma)[:6], 1e-5, one[:6])
    assert_close(given[2][:6], t[:6] ** 2, 1e-5, 36.0)


# The warning.


def greatest_probability(classes, temperature):
    """Of a teacher that is certain."""
    z = np.eye(classes)[:1]
    z = (z - z.mean()) / z.std(ddof=1) / temperature
    return (np.exp(z) / np.exp(z).sum()).max()


def warned(rule, classes):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rule(*tensors(*draw((2, classes))[:2]))
    return [str(w.message) for w in caught if "Standardized" in str(w.message)]


@pytest.mark.parametrize("classes, temperature", [(10, 2.0), (4, 2.0), (100, 3.0)])
def test_few_classes_warn_once_with_maximum_confidence_and_hint(classes, temperature):
    rule = Standardized(temperature)
    (message,) = warned(rule, classes)
    assert f"{classes} classes" in message
    assert f"above {greatest_probability(classes, temperature):.2f}," in message
    remedy = float(message.rpartition("below ")[2].rstrip("."))
    assert greatest_probability(classes, remedy) == pytest.approx(0.5, abs=0.01)
    assert warned(rule, classes) == []


@pytest.mark.parametrize(
    "classes, temperature", [(2, 50.0), (3, 2.0), (100, 2.0), (10, 1.4), (10, 1e-3)]
)
def test_enough_classes_do_not_warn(classes, temperature):
    assert warned(Standardized(temperature), classes) == []
