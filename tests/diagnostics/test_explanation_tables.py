"""The printed tables are readable, and show the most notable entries."""

import numpy as np
import pytest

from keras_dtkd.diagnostics.explanation_tables import MAX_CLASSES, MAX_ROWS
from keras_dtkd.diagnostics.pair_statistics import PairStatistics
from tests.logit_models import draw_logits

pytestmark = pytest.mark.single_backend


def build(classes, samples=4000, names=None, quirks=20):
    """An `Explanation` whose teacher takes some classes for the next one."""
    teacher, student, labels = draw_logits(samples, classes)
    rng = np.random.default_rng(1)
    for k in range(0, min(quirks, classes - 1), 2):
        rows = (labels == k) & (rng.random(samples) < 0.4)
        teacher[rows, k + 1] += 9
        student[rows, k + 1] += 9 * (k % 4 == 0)
    statistics = PairStatistics(classes)
    statistics.update(teacher, student, labels, None, np.arange(samples))
    names = map(str, range(classes)) if names is None else names
    return statistics.summarize(list(names))


@pytest.fixture(scope="module")
def large():
    names = [f"a rather long name, number {i}" for i in range(100)]
    return build(100, names=names)


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
def test_no_line_is_wider_than_a_page(classes):
    names = ["an extraordinarily long name for a class"] * classes
    text = str(build(classes, names=names))
    assert max(map(len, text.splitlines())) <= 88


def test_all_of_a_few_classes_are_shown_in_order():
    explanation = build(10)
    table = str(explanation).partition("  samples")[2].splitlines()[1:11]
    assert [row.split()[0] for row in table] == [str(i) for i in range(10)]
    for row, c in zip(table, explanation.classes, strict=True):
        assert f"{c['teacher_accuracy']:.1%}" in row
        assert str(c["samples"]) in row.split()


def test_of_many_classes_those_with_the_lowest_agreement_are_shown(large):
    text = str(large)
    hidden = 100 - MAX_CLASSES
    assert f"{hidden} more classes are left out" in " ".join(text.split())
    lowest = min(large.classes, key=lambda c: c["agreement"])
    start = text.index("class  ")
    first = text[start:].splitlines()[1]
    assert first.startswith(f"{lowest['label']} a rath")
    assert f"{lowest['agreement']:.1%}" in first


def test_confusions_are_ranked_and_marked(large):
    table = str(large).partition("label → prediction")[2].splitlines()[1:]
    rows = table[:MAX_ROWS]
    for row, pair in zip(rows, large.confusions, strict=False):
        assert f"{pair['taken_over_share']:.1%}" in row
        assert ("taken over" in row) == pair["is_taken_over"]
    frequent = sum(c["is_frequent"] for c in large.confusions)
    assert f"{frequent - MAX_ROWS} more pairs left out" in table[MAX_ROWS]


def test_without_confusions_it_is_stated():
    teacher = 9 * np.eye(3, dtype="float32")[np.arange(30) % 3]
    statistics = PairStatistics(3)
    data = teacher, teacher, np.arange(30) % 3, None, np.arange(30)
    statistics.update(*data)
    text = str(statistics.summarize("abc"))
    assert "there is no pair of classes" in text
    assert "Gradient of KD: 0 for every sample" in text


def test_the_short_form_names_what_matters_most(large):
    count = len(large.taken_over)
    assert count and f"taken_over={count})" in repr(large)
    assert "num_samples=4000" in repr(large)
