"""Confusions by independent counting, and a planted one."""

import numpy as np
import pytest

from keras_dtkd.diagnostics.confusions import find_confusions, fisher_p_value
from tests import oracles_explain

pytestmark = pytest.mark.single_backend
RNG = np.random.default_rng(0)


def draw(samples=400, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    labels, teacher, student = rng.integers(0, classes, (3, samples))
    is_right = rng.random((2, samples)) < 0.6
    teacher, student = (
        np.where(right, labels, predicted)
        for right, predicted in zip(is_right, (teacher, student), strict=True)
    )
    return labels, teacher, student


@pytest.mark.parametrize(
    "table", [(0, 5, 0, 5), (5, 5, 0, 20), (3, 8, 4, 90), (2, 6, 9, 10), (7, 7, 3, 3)]
)
def test_p_value_is_that_of_fishers_exact_test(table):
    assert fisher_p_value(*table) == pytest.approx(oracles_explain.fisher(*table))


def test_p_value_of_many_samples_is_finite_and_small():
    assert 0 < fisher_p_value(60, 100, 500, 50_000) < 1e-30


@pytest.mark.parametrize("weighted", [False, True])
def test_every_pair_equals_its_reference(weighted):
    labels, teacher, student = draw()
    weights = RNG.uniform(0.5, 3, 400) if weighted else np.ones(400)
    found = find_confusions(labels, teacher, student, weights, 4)
    observed = {
        (int(a), int(b))
        for predicted in (teacher, student)
        for a, b in zip(labels, predicted, strict=True)
        if a != b
    }
    assert {(c["label"], c["predicted"]) for c in found} == observed
    expected = {
        pair: oracles_explain.confusion(pair, labels, teacher, student, weights)
        for pair in observed
    }
    tests = sum(values["p_value"] is not None for values in expected.values())
    for c in found:
        values = expected[c["label"], c["predicted"]]
        if values["p_value"] is not None:
            values["p_value"] = min(1.0, values["p_value"] * tests)
        assert {name: c[name] for name in values} == pytest.approx(values)


def planted(share_student, confused=30, right=60, flips=0):
    """Class 0, which the teacher takes for 1 in some samples, and so the student."""
    labels = np.zeros(confused + right + 20, int)
    labels[-20:] = 1
    teacher = labels.copy()
    teacher[:confused] = 1
    student = labels.copy()
    student[: int(share_student * confused)] = 1
    student[confused : confused + flips] = 1
    return labels, teacher, student, np.ones(len(labels)), 3


@pytest.mark.parametrize(
    "share, flips, expected",
    [
        (1.0, 0, True),
        (0.6, 6, True),
        # Less than one half.
        (0.4, 0, False),
        # As often where the teacher is right.
        (0.6, 36, False),
        (0.0, 0, False),
    ],
)
def test_planted_confusion_counts_as_taken_over_where_the_student_has_it(
    share, flips, expected
):
    (pair,) = find_confusions(*planted(share, flips=flips))
    assert (pair["label"], pair["predicted"]) == (0, 1)
    assert pair["taken_over_share"] == pytest.approx(share)
    assert pair["is_taken_over"] is expected


def test_too_few_samples_are_not_tested():
    (pair,) = find_confusions(*planted(1.0, confused=4))
    assert pair["p_value"] is None
    assert not pair["is_frequent"] and not pair["is_taken_over"]


def test_a_class_in_which_the_teacher_is_never_right_is_not_tested():
    (pair,) = find_confusions(*planted(1.0, right=0))
    assert pair["is_frequent"] and pair["taken_over_share"] == 1.0
    assert pair["rate_elsewhere"] is None and pair["p_value"] is None
    assert not pair["is_taken_over"]


def test_frequent_pairs_are_ranked_by_their_excess():
    labels, teacher, student = draw(seed=1)
    found = find_confusions(labels, teacher, student, np.ones(400), 4)
    frequent = [c for c in found if c["is_frequent"]]
    assert found[: len(frequent)] == frequent
    excess = [c["taken_over_share"] - c["rate_elsewhere"] for c in frequent]
    assert excess == sorted(excess, reverse=True)


def test_without_any_confusion_there_are_none():
    labels = np.arange(6) % 3
    assert find_confusions(labels, labels, labels, np.ones(6), 3) == []


def test_independent_predictions_are_hardly_ever_taken_over():
    count = 0
    for seed in range(20):
        labels, teacher, student = draw(seed=seed)
        found = find_confusions(labels, teacher, student, np.ones(400), 4)
        count += any(c["is_taken_over"] for c in found)
    # The p-values are corrected for all tests of a call: 1 of 20 at most expected.
    assert count <= 2
