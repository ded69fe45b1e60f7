"""Whether a teacher knows the labels, in which order, or not at all."""

import numpy as np
import pytest

from keras_dtkd.diagnostics import teacher_quality


def teacher(count=256, classes=10, right=0.9, size=5.0, seed=0):
    """Logits of a teacher that is right so often, and the labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    chosen = np.where(rng.random(count) < right, labels, (labels + 1) % classes)
    logits = rng.normal(size=(count, classes))
    logits[np.arange(count), chosen] += size
    return logits.astype("float32"), labels


@pytest.mark.parametrize("classes, count", [(2, 256), (10, 256), (100, 512)])
def test_a_permutation_is_found_and_how_good_it_is(classes, count):
    logits, labels = teacher(count, classes)
    order = np.roll(np.arange(classes), 1)
    found, right = teacher_quality.permutation(logits, order[labels])
    # Of a hundred classes some are hardly seen.
    assert np.mean([order[i] == label for i, label in found.items()]) > 0.9
    assert 0.75 < right < 1
    message = teacher_quality.permuted((found, right), 0.1).message
    assert "0→" in message and f"{right:.1%}" in message


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("right", [0.0, 0.3, 0.9])
def test_no_permutation_is_made_up(classes, right):
    """Neither for a guessing teacher, nor for one that is right."""
    logits, labels = teacher(classes=classes, right=1.0)
    rng = np.random.default_rng(1)
    guess = rng.random(len(labels)) > right
    labels = np.where(guess, rng.integers(0, classes, len(labels)), labels)
    assert teacher_quality.permutation(logits, labels) is None


def test_few_samples_tell_nothing():
    logits, labels = teacher(count=6)
    assert teacher_quality.permutation(logits, (labels + 1) % 10) is None


def test_rows_without_a_label_count_nowhere():
    logits, labels = teacher()
    expected = teacher_quality.figures(
        np.tile(logits[:128], (2, 1)), np.tile(labels[:128], 2)
    )
    labels[128:] = -1
    found = teacher_quality.figures(logits, labels)
    assert found["accuracy"] == pytest.approx(expected["accuracy"])
    error = "calibration_error"
    assert found[error] == pytest.approx(expected[error], abs=1e-6)
    assert "accuracy" not in teacher_quality.figures(logits, None)
    assert teacher_quality.accuracy(logits, labels * 0 - 1) is None


def test_chance():
    logits, labels = teacher()
    assert teacher_quality.chance(logits, labels) == []
    rng = np.random.default_rng(1)
    (finding,) = teacher_quality.chance(logits, rng.permutation(labels))
    assert finding.name == "chance_teacher" and finding.severity == "error"
    # Somewhat better than chance, and without an idea of it.
    logits, labels = teacher(right=0.17, size=0.1)
    weak = 0.1 * logits
    assert teacher_quality.chance(weak, labels)


def imbalanced(size):
    """Labels of which 8 % are 1, and a teacher that knows no more than that."""
    rng = np.random.default_rng(0)
    labels = (rng.random(512) < 0.08).astype(int)
    logits = 0.01 * rng.normal(size=(512, 2)) + np.array([size, 0.0])
    return logits.astype("float32"), labels


def test_a_teacher_that_names_the_most_frequent_class_is_at_chance():
    (finding,) = teacher_quality.chance(*imbalanced(2.4))
    assert finding.name == "chance_teacher" and "most frequent" in finding.message
    # And one that is right where it matters is not.
    logits, labels = imbalanced(2.4)
    logits[:, 1] += 2.4 * labels
    assert teacher_quality.chance(logits, labels) == []
    # Nor one that is too sure ever to name the rare class, and likelier does there.
    logits, labels = imbalanced(9.0)
    logits[:, 1] += 0.02 * labels
    assert teacher_quality.chance(logits, labels) == []


def test_no_order_of_classes_is_better_than_the_most_frequent_one():
    assert teacher_quality.permutation(*imbalanced(-2.4)) is None
    logits, labels = imbalanced(-2.4)
    logits[:, 0] += 4.8 * labels
    assert teacher_quality.permutation(logits, labels)[0] == {0: 1, 1: 0}


def test_a_weak_teacher_is_not_at_chance():
    assert teacher_quality.chance(*teacher(right=0.4, size=3.0)) == []


@pytest.mark.parametrize("size, remedy", [(50.0, "higher"), (0.5, "lower")])
def test_calibration(size, remedy):
    logits, labels = teacher(right=0.7, size=5.0)
    found = teacher_quality.figures(logits * np.float32(size / 5), labels)
    (finding,) = teacher_quality.calibration(found)
    assert finding.severity == "note" and f"a {remedy} temperature" in finding.message
