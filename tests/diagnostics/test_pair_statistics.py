"""Every number equals its float64 reference, on every backend."""

import numpy as np
import pytest

from keras_dtkd.diagnostics.pair_statistics import PairStatistics
from tests import oracles, oracles_explain, oracles_metrics
from tests.logit_models import draw_logits

TEACHER, STUDENT, LABELS = draw_logits()
COUNT, CLASSES = TEACHER.shape
NAMES = list("abcde")
WEIGHTS = np.random.default_rng(1).integers(1, 4, COUNT).astype("float32")


def compute(weights=None, temperature=4.0, rows=slice(None), parts=4, student=STUDENT):
    """An `Explanation`, from some batches."""
    statistics = PairStatistics(CLASSES, temperature)
    label = np.where(LABELS[:, None] >= 0, np.eye(CLASSES, dtype="float32")[LABELS], 0)
    for chunk in np.array_split(np.arange(COUNT)[rows], parts):
        w = None if weights is None else weights[chunk]
        data = TEACHER[chunk], student[chunk], label[chunk].astype("float32"), w
        statistics.update(*data, chunk)
    return statistics.summarize(NAMES)


def weights_or_ones(weights):
    return np.ones(COUNT) if weights is None else weights.astype("float64")


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_shares_and_soft_labels_by_class(weights, temperature):
    explanation = compute(weights, temperature)
    w = weights_or_ones(weights)
    data = TEACHER, STUDENT, LABELS, w
    expected = oracles_explain.summary(*data, temperature)
    found = {name: explanation.overall[name] for name in expected}
    assert found == pytest.approx(expected, rel=1e-4)
    assert explanation.overall["samples"] == explanation.num_samples == COUNT
    assert [c["label"] for c in explanation.classes] == list(range(CLASSES))
    for c in explanation.classes:
        rows = LABELS == c["label"]
        expected = oracles_explain.summary(*(part[rows] for part in data), temperature)
        assert {name: c[name] for name in expected} == pytest.approx(expected, rel=1e-4)
        assert c["samples"] == rows.sum()


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])
def test_mean_soft_labels_and_nearest_classes(weights):
    explanation = compute(weights)
    w = weights_or_ones(weights)
    for role, logits in (("teacher", TEACHER), ("student", STUDENT)):
        expected = oracles_explain.soft_labels(logits, LABELS, w, 4.0)
        np.testing.assert_allclose(
            explanation.soft_labels[role], expected, rtol=1e-5, atol=1e-7
        )
        for c in explanation.classes:
            row = np.where(np.arange(CLASSES) == c["label"], 0, expected[c["label"]])
            assert c[f"{role}_nearest_class"] == row.argmax()
            nearest = c[f"{role}_nearest_probability"]
            assert nearest == pytest.approx(row.max(), rel=1e-4)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])
def test_calibration_of_both_models(weights):
    explanation = compute(weights)
    for role, logits in (("teacher", TEACHER), ("student", STUDENT)):
        bins = explanation.calibration[role]
        z = logits.astype("float64")
        error = oracles_metrics.calibration_error(z, LABELS, 15, weights)
        assert bins["error"] == pytest.approx(error, rel=1e-4)
        w = weights_or_ones(weights)
        p = oracles.softmax(z)
        assert sum(bins["count"]) == pytest.approx(w.sum())
        right = w[p.argmax(-1) == LABELS].sum()
        assert sum(bins["correct"]) == pytest.approx(right)
        confidence = (w * p.max(-1)).sum()
        assert sum(bins["confidence"]) == pytest.approx(confidence, rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_gradients_are_those_of_the_loss(temperature):
    gradients = compute(temperature=temperature).gradients
    norms = oracles_explain.gradient_norms(TEACHER, STUDENT, temperature)
    order = np.argsort(-norms)
    assert gradients["mean_norm"] == pytest.approx(norms.mean(), rel=1e-5)
    top = gradients["top_samples"]
    assert [sample["index"] for sample in top] == order[:10].tolist()
    for sample in top:
        i = sample["index"]
        assert sample["gradient_norm"] == pytest.approx(norms[i], rel=1e-4)
        assert sample["share"] == pytest.approx(norms[i] / norms.sum(), rel=1e-4)
        assert sample["label"] == LABELS[i]
        for role, logits in (("teacher", TEACHER), ("student", STUDENT)):
            p = oracles.softmax(logits[i].astype("float64"))
            assert sample[f"{role}_prediction"] == p.argmax()
            assert sample[f"{role}_confidence"] == pytest.approx(p.max(), rel=1e-4)
    shares = np.cumsum(norms[order]) / norms.sum()
    assert gradients["top_share"] == pytest.approx(shares[COUNT // 10 - 1], rel=1e-4)
    fractions, curve = gradients["curve"]
    np.testing.assert_allclose(fractions, np.linspace(0, 1, 101))
    expected = np.concatenate([[0.0], shares])[:: COUNT // 100]
    np.testing.assert_allclose(curve, expected, rtol=1e-4, atol=1e-6)


def without_counts(value):
    """Numbers that weights scale; not numbers of samples, tests and indices."""
    names = ("samples", "p_value", "is_", "index", "top_samples", "curve")
    if isinstance(value, dict):
        items = ((k, v) for k, v in value.items() if not any(n in k for n in names))
        return {k: without_counts(v) for k, v in items}
    return value


@pytest.mark.invariant(number=3)
def test_a_sample_of_weight_2_equals_that_sample_twice():
    rows = np.concatenate([np.arange(COUNT), np.arange(0, COUNT, 3)])
    weights = np.where(np.arange(COUNT) % 3 == 0, 2.0, 1.0).astype("float32")
    weighted, doubled = compute(weights), compute(rows=rows, parts=3)
    for name in ("overall", "gradients"):
        one, two = (without_counts(getattr(e, name)) for e in (weighted, doubled))
        assert one == pytest.approx(two, rel=1e-4)
    for one, two in zip(weighted.classes, doubled.classes, strict=True):
        assert without_counts(one) == pytest.approx(without_counts(two), rel=1e-4)
    by_pair = [
        {(c["label"], c["predicted"]): without_counts(c) for c in e.confusions}
        for e in (weighted, doubled)
    ]
    assert by_pair[0].keys() == by_pair[1].keys()
    for pair, values in by_pair[0].items():
        assert values == pytest.approx(by_pair[1][pair])
    curves = [np.array(e.gradients["curve"]) for e in (weighted, doubled)]
    np.testing.assert_allclose(*curves, rtol=1e-4, atol=1e-6)
    assert weighted.num_samples == COUNT


@pytest.mark.invariant(number=3)
def test_a_sample_of_weight_0_counts_nowhere_whatever_its_outputs():
    weights = np.where(np.arange(COUNT) % 3 == 0, 0.0, 1.0).astype("float32")
    student = np.where(weights[:, None] == 0, np.nan, STUDENT).astype("float32")
    found = compute(weights, student=student).to_dict()
    expected = compute(rows=np.flatnonzero(weights), parts=7).to_dict()
    for name in ("overall", "gradients", "num_samples"):
        one, two = (without_counts(e[name]) for e in (found, expected))
        assert one == pytest.approx(two, rel=1e-5)
    assert found["confusions"] == expected["confusions"]
    assert found["gradients"]["top_samples"] == expected["gradients"]["top_samples"]
    for role in ("teacher", "student"):
        error = expected["calibration"][role]["error"]
        assert found["calibration"][role]["error"] == pytest.approx(error, rel=1e-5)


def test_equal_models_have_no_gradient_and_agree():
    explanation = compute(student=TEACHER)
    assert explanation.overall["agreement"] == 1.0
    assert explanation.overall["soft_label_correlation"] == pytest.approx(1.0, abs=1e-5)
    assert explanation.gradients["mean_norm"] == 0.0
    assert explanation.gradients["top_share"] is None


@pytest.mark.invariant(number=6)
def test_numbers_are_finite_for_extreme_logits():
    statistics = PairStatistics(3)
    z = np.array([[1e4, -1e4, 0], [0, 0, 0], [-1e9, 5, 1]], "float32")
    statistics.update(z, z[::-1].copy(), np.eye(3, dtype="float32"), None, np.arange(3))
    explanation = statistics.summarize("abc")
    values = [*explanation.overall.values(), explanation.gradients["mean_norm"]]
    assert np.isfinite([v for v in values if v is not None]).all()


@pytest.mark.invariant(number=10)
def test_nan_that_counts_is_an_error_with_the_sample():
    student = STUDENT.copy()
    student[7, 2] = np.nan
    with pytest.raises(ValueError, match="student's outputs hold NaN.*sample 7"):
        compute(student=student)


@pytest.mark.invariant(number=10)
def test_no_sample_that_counts_is_an_error():
    with pytest.raises(ValueError, match="no sample has both a label and a weight"):
        compute(np.zeros(COUNT, "float32"))
