"""Privacy scores of tokens, from text."""

import re

import numpy as np


def privacy_scores(texts, offsets, find, length=None):
    r"""How likely it is that each token is part of something private, from 0 to 1.

    Args:
        texts: A list of strings.
        offsets: A list for each text: where each of its tokens begins and ends,
            `(start, end)` in characters, as tokenizers give it (`offset_mapping`); or a
            function from a text to that list. Tokens of no character, `(0, 0)`, have
            the score 0.
        find: What is private: a regular expression, or a list of them (the first
            group of a match, if the expression has groups, else all of it); a function
            from a text to its spans; or `"presidio"`, the recognizers of Microsoft's
            Presidio for English (extra `privacy`), which downloads a model of English
            when it is first used. A span is `(start, end)`, `(start, end, score)` or an
            object with these attributes, as Presidio's results: another engine or
            language is `lambda text: engine.analyze(text, language="de")`.
        length: Number of columns. Longer texts are cut, shorter ones are padded with
            0. The longest text's number of tokens by default.

    Returns:
        float32 `(texts, length)`: for each token the highest score of the spans that
        it overlaps, 1 for a span without a score. Its labels are one token further:
        `scores[:, 1:]` belongs to the labels `tokens[:, 1:]`.

    Raises:
        ValueError: Not one list of offsets a text, or `find` is none of these.
        ImportError: Presidio is not installed.

    Example:

    >>> scores = privacy_scores(texts, offsets, r"pin of \w+ is (\d{4})")
    >>> x = with_columns(tokens[:, :-1], privacy=scores[:, 1:])
    """
    find_spans = _resolve(find)
    if callable(offsets):
        offsets = [offsets(text) for text in texts]
    if len(offsets) != len(texts):
        raise ValueError(
            f"`privacy_scores`: {len(texts)} texts need as many lists of `offsets`. "
            f"Received: {len(offsets)}."
        )
    if length is None:
        length = max(map(len, offsets), default=0)
    scores = np.zeros((len(texts), length), "float32")
    for row, text, tokens in zip(scores, texts, offsets, strict=True):
        starts, ends = np.asarray(tokens[:length]).reshape(-1, 2).T
        for start, end, score in map(_to_span, find_spans(text)):
            overlaps = np.maximum(starts, start) < np.minimum(ends, end)
            count = len(starts)
            row[:count] = np.where(
                overlaps, np.maximum(row[:count], score), row[:count]
            )
    return scores


def _resolve(find):
    """A function from a text to its spans."""
    if callable(find):
        return find
    if isinstance(find, str) and find == "presidio":
        return _presidio()
    patterns = find if isinstance(find, list | tuple) else [find]
    if not patterns or not all(isinstance(p, str | re.Pattern) for p in patterns):
        raise ValueError(
            "`privacy_scores`: `find` must be a regular expression, a list of them, a "
            f"function from a text to spans, or 'presidio'. Received: find={find!r}."
        )
    compiled = [re.compile(pattern) for pattern in patterns]
    return lambda text: [
        _find_span(match) for pattern in compiled for match in pattern.finditer(text)
    ]


def _find_span(match):
    """Where the first group lies that took part in a match, or else all of it."""
    groups = range(1, match.re.groups + 1)
    return match.span(next((g for g in groups if match.start(g) >= 0), 0))


def _presidio():
    try:
        from presidio_analyzer import AnalyzerEngine
    except ImportError as error:
        raise ImportError(
            "`privacy_scores`: `find='presidio'` requires Presidio's analyzer, which "
            "cannot be imported. Install it: `pip install presidio-analyzer`."
        ) from error
    engine = AnalyzerEngine()
    return lambda text: engine.analyze(text=text, language="en")


def _to_span(span):
    """`(start, end, score)`."""
    if hasattr(span, "start"):
        return span.start, span.end, getattr(span, "score", 1.0)
    start, end, *score = span
    return start, end, score[0] if score else 1.0
