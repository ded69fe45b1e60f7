"""Points are the mean confidences and accuracies of the bins."""

import numpy as np
import pytest
from keras import ops

from keras_dtkd import plots
from keras_dtkd.plots import style
from tests import oracles, oracles_metrics

pytest.importorskip("matplotlib")
RNG = np.random.default_rng(0)
TEACHER, STUDENT = (RNG.normal(size=(2, 60, 4)) * [[[3]], [[1]]]).astype("float32")
SIGMOID = 1 / (1 + np.exp(-TEACHER[:, :1]))
# Half of them are correct, so that confidence is informative.
Y = RNG.integers(0, 4, 60)
Y[::2] = TEACHER[::2].argmax(-1)


def binned(logits, labels, bins):
    """Mean confidence, accuracy and fraction of samples of the filled bins."""
    p = oracles.softmax(logits.astype("float64"))
    top, is_correct = p.max(-1), p.argmax(-1) == labels
    points = []
    for b in range(bins):
        inside = (b / bins < top) & (top <= (b + 1) / bins)
        if inside.any():
            accuracy = is_correct[inside].mean()
            points.append((top[inside].mean(), accuracy, inside.mean()))
    return np.array(points)


def line(figure, name):
    lines = figure.axes[0].lines
    (match,) = (x for x in lines if x.get_label().startswith(f"{name}: "))
    return match


@pytest.mark.parametrize("bins", [1, 15])
def test_points_are_binned_accuracies_and_the_legend_shows_the_error(bins):
    outputs = {"teacher": TEACHER, "student": STUDENT}
    figure = plots.calibration(Y, outputs, bins)
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    for name, z in outputs.items():
        points = line(figure, name).get_xydata()
        np.testing.assert_allclose(points, binned(z, Y, bins)[:, :2], atol=1e-5)
        error = oracles_metrics.calibration_error(z, Y, bins)
        assert f"{name}: ECE {error:.3f}" in legend


def test_thin_lines_connect_the_points_to_the_diagonal():
    figure = plots.calibration(Y, {"teacher": TEACHER}, 5)
    expected = binned(TEACHER, Y, 5)
    gaps = np.array(figure.axes[0].collections[0].get_segments())
    np.testing.assert_allclose(gaps[:, :, 0], expected[:, [0, 0]], atol=1e-5)
    np.testing.assert_allclose(gaps[:, :, 1], expected[:, :2], atol=1e-5)


def test_the_histogram_is_in_percent_and_sums_to_100():
    figure = plots.calibration(Y, {"teacher": TEACHER}, 15)
    values, edges, _ = figure.axes[1].patches[0].get_data()
    np.testing.assert_allclose(edges, np.linspace(0, 1, 16))
    confidence = oracles.softmax(TEACHER.astype("float64")).max(-1)
    expected, _ = np.histogram(confidence, edges)
    np.testing.assert_allclose(values, 100 * expected / 60, rtol=1e-5)
    assert values.sum() == pytest.approx(100)


def test_both_axes_share_the_confidence_axis():
    figure = plots.calibration(Y, {"teacher": TEACHER})
    top, bottom = figure.axes
    assert top.get_xlim() == bottom.get_xlim() == (0, 1)
    assert bottom.get_xlabel() == "Confidence (top probability)"
    assert line(figure, "teacher").get_color() == style.TEACHER


@pytest.mark.parametrize("form", ["one-hot", "column", "tensor", "list"])
def test_labels_and_outputs_may_have_any_form(form):
    labels = {
        "one-hot": np.eye(4)[Y],
        "column": Y[:, None],
        "tensor": ops.convert_to_tensor(Y),
        "list": Y.tolist(),
    }[form]
    z = ops.cast(ops.convert_to_tensor(TEACHER), "float16")
    points = line(plots.calibration(labels, {"a": z}, 5), "a").get_xydata()
    np.testing.assert_allclose(points, binned(TEACHER, Y, 5)[:, :2], atol=1e-3)


def test_probabilities_and_sequences_are_accepted():
    p = oracles.softmax(TEACHER).reshape(20, 3, 4)
    figure = plots.calibration(Y.reshape(20, 3), {"a": p}, 5, from_logits=False)
    points = line(figure, "a").get_xydata()
    np.testing.assert_allclose(points, binned(TEACHER, Y, 5)[:, :2], atol=1e-5)


def test_a_single_output_is_binary_classification():
    z, y = TEACHER[:, :1], Y % 2
    expected = binned(np.hstack([0 * z, z]), y, 5)
    for outputs, from_logits in ((z, True), (SIGMOID, False)):
        figure = plots.calibration(y[:, None], {"a": outputs}, 5, from_logits)
        points = line(figure, "a").get_xydata()
        np.testing.assert_allclose(points, expected[:, :2], atol=1e-5)


@pytest.mark.invariant(number=3)
def test_samples_without_a_label_are_ignored():
    labels = np.where(np.arange(60) < 40, Y, -1)
    points = line(plots.calibration(labels, {"a": TEACHER}, 5), "a").get_xydata()
    expected = binned(TEACHER[:40], Y[:40], 5)
    np.testing.assert_allclose(points, expected[:, :2], atol=1e-5)


@pytest.mark.invariant(number=10)
@pytest.mark.parametrize(
    "labels, outputs, options, error, message",
    [
        (Y, TEACHER, {}, TypeError, "`outputs` must be a dict.*ndarray"),
        (Y, {}, {}, ValueError, "`outputs` is empty"),
        (Y[:3], {"a": TEACHER}, {}, ValueError, r"\(3,\) do not fit.*\(60, 4\)"),
        (Y, {"a": TEACHER[0]}, {}, ValueError, r"outputs of 'a'.*shape \(4,\)"),
        (Y, {"a": np.eye(4)[Y]}, {}, ValueError, "'a' look like probabilities"),
        (
            Y,
            {"a": TEACHER},
            {"from_logits": False},
            ValueError,
            "are not probabilities",
        ),
        (Y, {"a": TEACHER}, {"bins": 0}, ValueError, "bins=0"),
        (0 * Y - 1, {"a": TEACHER}, {}, ValueError, "no sample has a valid label"),
    ],
)
def test_invalid_arguments_raise(labels, outputs, options, error, message):
    with pytest.raises(error, match=message):
        plots.calibration(labels, outputs, **options)
