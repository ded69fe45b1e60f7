"""Spans of characters become scores of tokens."""

import re
import sys
import types

import numpy as np
import pytest

from keras_dtkd.datasets import privacy_scores

TEXT = "pin of ann is 4831, not 99"


def words(text):
    return [match.span() for match in re.finditer(r"\w+", text)]


def found(find, **options):
    """Words with a score, and it."""
    scores = privacy_scores([TEXT], words, find, **options)
    assert scores.dtype == "float32"
    tokens = [TEXT[start:end] for start, end in words(TEXT)]
    pairs = zip(tokens, scores[0], strict=False)
    return {token: score for token, score in pairs if score}


@pytest.mark.parametrize(
    "find, expected",
    [
        (r"\d{4}", {"4831": 1}),
        (re.compile("PIN", re.IGNORECASE), {"pin": 1}),
        ([r"\d+", "ann"], {"ann": 1, "4831": 1, "99": 1}),
        (r"is (\d+)", {"4831": 1}),
        (r"is (\d+)|not (\d+)", {"4831": 1, "99": 1}),
        (r"is (\d+)|ann", {"4831": 1, "ann": 1}),
        ("831", {"4831": 1}),
        ("xyz", {}),
        (
            lambda text: [(0, 3), (7, 10, 0.25), (4, 10, 0.5)],
            {"pin": 1, "of": 0.5, "ann": 0.5},
        ),
        (
            lambda text: [types.SimpleNamespace(start=0, end=3, score=0.75)],
            {"pin": 0.75},
        ),
    ],
)
def test_tokens_that_overlap_what_is_found_have_its_score(find, expected):
    assert found(find) == expected


def test_texts_are_padded_and_cut():
    offsets = [[(0, 0), (0, 1), (1, 2)], [(0, 0)]]
    assert privacy_scores(["ab", ""], offsets, ".").tolist() == [[0, 1, 1], [0, 0, 0]]
    assert privacy_scores(["ab", ""], offsets, ".", 2).tolist() == [[0, 1], [0, 0]]
    assert privacy_scores(["ab", ""], offsets, ".", 5).shape == (2, 5)


def test_presidio_analyzes_english(monkeypatch):
    class AnalyzerEngine:
        def analyze(self, text, language):
            assert (text, language) == (TEXT, "en")
            return [types.SimpleNamespace(start=14, end=18, score=0.875)]

    module = types.ModuleType("presidio_analyzer")
    module.AnalyzerEngine = AnalyzerEngine
    monkeypatch.setitem(sys.modules, "presidio_analyzer", module)
    assert found("presidio") == {"4831": 0.875}


def test_a_recognizer_of_presidio_finds_what_its_pattern_names():
    presidio = pytest.importorskip("presidio_analyzer")
    pattern = presidio.Pattern("pin", r"\d{4}", 0.75)
    recognizer = presidio.PatternRecognizer("PIN", patterns=[pattern])
    assert found(lambda text: recognizer.analyze(text, ["PIN"])) == {"4831": 0.75}


@pytest.mark.invariant(number=10)
def test_presidio_that_is_missing_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    with pytest.raises(ImportError, match="pip install presidio-analyzer"):
        privacy_scores([TEXT], words, "presidio")


@pytest.mark.invariant(number=10)
def test_what_finds_nothing_and_offsets_that_do_not_fit_are_refused():
    for wrong in (None, [], [3]):
        with pytest.raises(ValueError, match="`find` must be") as error:
            privacy_scores([TEXT], words, wrong)
        assert f"find={wrong!r}" in str(error.value)
    with pytest.raises(ValueError, match="1 texts need as many lists of `offsets`"):
        privacy_scores([TEXT], [[], []], "a")


def test_no_texts_have_no_scores():
    assert privacy_scores([], [], "a").shape == (0, 0)
    assert np.array_equal(privacy_scores(["a"], [[]], "a"), np.zeros((1, 0)))
