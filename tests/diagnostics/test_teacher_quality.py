"""Whether a teacher knows the labels, in which order of the classes, or not at all."""

import builtins
import sys

import numpy as np
import pytest

from keras_dtkd import diagnose
from keras_dtkd.diagnostics import teacher_quality
from tests import tiny_models


@pytest.fixture
def needs_scipy():
    pytest.importorskip("scipy")


def random_teacher(count=256, classes=10, accuracy=0.9, size=5.0, seed=0):
    """Logits of a teacher of this accuracy, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    chosen = np.where(rng.random(count) < accuracy, labels, (labels + 1) % classes)
    logits = rng.normal(size=(count, classes))
    logits[np.arange(count), chosen] += size
    return logits.astype("float32"), labels


def is_at_chance(logits, labels):
    issues = list(teacher_quality.check_teacher_at_chance(logits, labels))
    assert [issue.code for issue in issues] in ([], ["chance_teacher"])
    assert all(issue.severity == "error" for issue in issues)
    return bool(issues)


@pytest.mark.parametrize("classes, count", [(2, 256), (10, 256), (100, 512)])
def test_permutation_is_found_with_its_accuracy(classes, count, needs_scipy):
    logits, labels = random_teacher(count, classes)
    order = np.roll(np.arange(classes), 1)
    found, accuracy = teacher_quality.find_label_permutation(logits, order[labels])
    # Of a hundred classes some are rare.
    assert np.mean([order[i] == label for i, label in found.items()]) > 0.9
    assert 0.75 < accuracy < 1
    issue = teacher_quality.permutation_issue((found, accuracy), 0.1)
    assert "0→" in issue.message and f"{accuracy:.1%}" in issue.message


def test_assignment_has_the_most_correct_samples(needs_scipy):
    """Greedy assignment would take 0→0 first and lose both other pairs."""
    counts = {(0, 0): 5, (0, 1): 4, (1, 0): 4}
    predicted, labels = np.repeat(list(counts), list(counts.values()), axis=0).T
    assert teacher_quality._assign_labels(predicted, labels) == {0: 1, 1: 0}


@pytest.mark.single_backend
def test_assignment_is_that_of_the_square_matrix_of_all_classes(needs_scipy):
    from scipy.optimize import linear_sum_assignment

    rng = np.random.default_rng(0)
    for classes in (1, 3, 8):
        # Different counts: the best assignment is the only one.
        pairs = rng.permutation(classes**2)[: 2 * classes]
        counts = np.zeros((classes, classes), int)
        counts.flat[pairs] = 2 ** np.arange(len(pairs))
        predicted, labels = np.repeat(np.argwhere(counts), counts[counts > 0], 0).T
        rows, columns = linear_sum_assignment(counts, maximize=True)
        expected = zip(rows.tolist(), columns.tolist(), strict=True)
        found = teacher_quality._assign_labels(predicted, labels)
        assert found == {a: b for a, b in expected if counts[a, b]}
    assert teacher_quality._assign_labels(predicted[:0], labels[:0]) == {}


@pytest.mark.single_backend
def test_assignment_takes_the_memory_of_the_classes_that_occur(needs_scipy):
    """The square of all classes would be more than any machine has."""
    predicted, labels = np.array([[1, 1, 2**40], [2**40, 2**40, 7]])
    found = teacher_quality._assign_labels(predicted, labels)
    assert found == {1: 2**40, 2**40: 7}


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("known_share", [0.0, 0.3, 0.9])
def test_no_permutation_for_a_guessing_or_correct_teacher(
    classes, known_share, needs_scipy
):
    logits, labels = random_teacher(classes=classes, accuracy=1.0)
    rng = np.random.default_rng(1)
    guess = rng.random(len(labels)) > known_share
    labels = np.where(guess, rng.integers(0, classes, len(labels)), labels)
    assert teacher_quality.find_label_permutation(logits, labels) is None


def test_few_samples_are_no_evidence_of_a_permutation(needs_scipy):
    logits, labels = random_teacher(count=6)
    permuted = (labels + 1) % 10
    assert teacher_quality.find_label_permutation(logits, permuted) is None


def test_samples_without_a_label_are_ignored():
    logits, labels = random_teacher()
    expected = teacher_quality.compute_label_statistics(
        np.tile(logits[:128], (2, 1)), np.tile(labels[:128], 2)
    )
    labels[128:] = -1
    statistics = teacher_quality.compute_label_statistics(logits, labels)
    for name in ("accuracy", "calibration_error"):
        assert statistics[name] == pytest.approx(expected[name], abs=1e-6)
    assert "accuracy" not in teacher_quality.compute_label_statistics(logits, None)
    assert teacher_quality.compute_accuracy(logits, labels * 0 - 1) is None


def test_teacher_at_chance():
    logits, labels = random_teacher()
    assert not is_at_chance(logits, labels)
    assert is_at_chance(logits, np.random.default_rng(1).permutation(labels))
    # Somewhat better than chance, at the confidence of a guess.
    logits, labels = random_teacher(accuracy=0.17, size=0.1)
    assert is_at_chance(0.1 * logits, labels)


def imbalanced(size):
    """Labels of which 8% are 1, and a teacher that knows no more than that."""
    rng = np.random.default_rng(0)
    labels = (rng.random(512) < 0.08).astype(int)
    logits = 0.01 * rng.normal(size=(512, 2)) + np.array([size, 0.0])
    return logits.astype("float32"), labels


def test_teacher_that_predicts_the_most_frequent_class_is_at_chance():
    assert is_at_chance(*imbalanced(2.4))
    (issue,) = teacher_quality.check_teacher_at_chance(*imbalanced(2.4))
    assert "most frequent" in issue.message
    # One that predicts the rare class correctly is not.
    logits, labels = imbalanced(2.4)
    logits[:, 1] += 2.4 * labels
    assert not is_at_chance(logits, labels)
    # Nor one that never predicts the rare class, but ranks its samples first.
    logits, labels = imbalanced(9.0)
    logits[:, 1] += 0.02 * labels
    assert not is_at_chance(logits, labels)


def test_permutation_must_be_better_than_the_most_frequent_class(needs_scipy):
    assert teacher_quality.find_label_permutation(*imbalanced(-2.4)) is None
    logits, labels = imbalanced(-2.4)
    logits[:, 0] += 4.8 * labels
    order, _ = teacher_quality.find_label_permutation(logits, labels)
    assert order == {0: 1, 1: 0}


def test_weak_teacher_is_not_at_chance():
    assert not is_at_chance(*random_teacher(accuracy=0.4, size=3.0))


@pytest.mark.parametrize("size, hint", [(50.0, "higher"), (0.5, "lower")])
def test_calibration(size, hint):
    logits, labels = random_teacher(accuracy=0.7, size=5.0)
    logits = logits * np.float32(size / 5)
    statistics = teacher_quality.compute_label_statistics(logits, labels)
    (issue,) = teacher_quality.check_calibration(statistics)
    assert issue.severity == "info" and f"a {hint} temperature" in issue.hint


@pytest.fixture
def without_scipy(monkeypatch):
    """SciPy as if it were not installed."""
    original = builtins.__import__

    def fail(name, *args, **kwargs):
        if name.split(".")[0] == "scipy":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    for name in list(sys.modules):
        if name.split(".")[0] == "scipy":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", fail)


def test_diagnosis_without_scipy_names_the_package(without_scipy):
    x, y = tiny_models.data(256)
    pair = tiny_models.teacher(), tiny_models.student()
    report = diagnose(*pair, (x, (y + 1) % 4), verbose=0)
    issues = {issue.code: issue for issue in report.issues}
    assert "permuted_classes" not in issues
    assert issues["not_checked"].hint == "pip install scipy"
    assert str(issues["not_checked"]) in str(report).replace("\n    ", " ")
