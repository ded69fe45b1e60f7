"""The four panels show the numbers of an explanation, of any number of classes."""

import numpy as np
import pytest

from keras_dtkd import plots
from keras_dtkd.plots import style
from keras_dtkd.plots.explanation import MAX_CLASSES, MAX_CONFUSIONS
from tests.diagnostics.test_explanation_tables import build

pytest.importorskip("matplotlib")
SMALL = build(5, samples=300, quirks=4)
LARGE = build(100, names=[f"a rather long name, number {i}" for i in range(100)])


def tick_labels(ax):
    return [text.get_text() for text in ax.get_yticklabels()]


def points(ax, name):
    (line,) = (x for x in ax.lines if x.get_label().startswith(name))
    return line


def test_accuracies_and_agreement_of_each_class():
    ax = plots.explanation(SMALL).axes[0]
    assert tick_labels(ax) == list("01234")
    for role in ("teacher", "student"):
        line = points(ax, role)
        expected = [100 * c[f"{role}_accuracy"] for c in SMALL.classes]
        np.testing.assert_allclose(line.get_xdata(), expected)
        assert line.get_color() == style.MODEL_COLORS[role]
    widths = [bar.get_width() for bar in ax.containers[0]]
    np.testing.assert_allclose(widths, [100 * c["agreement"] for c in SMALL.classes])


def test_of_many_classes_those_with_the_lowest_agreement_are_drawn():
    ax = plots.explanation(LARGE).axes[0]
    agreements = sorted(100 * c["agreement"] for c in LARGE.classes)
    widths = [bar.get_width() for bar in ax.containers[0]]
    np.testing.assert_allclose(widths, agreements[:MAX_CLASSES])
    assert f"The {MAX_CLASSES} of 100 classes" in ax.get_title()


def test_confusions_are_pairs_of_bars_and_a_star():
    figure = plots.explanation(SMALL)
    ax = figure.axes[1]
    pairs = [c for c in SMALL.confusions if c["is_frequent"]][:MAX_CONFUSIONS]
    bars = [container[0] for container in ax.containers if len(container)]
    for pair, share, rate in zip(pairs, bars[::2], bars[1::2], strict=True):
        assert share.get_width() == pytest.approx(100 * pair["taken_over_share"])
        assert rate.get_width() == pytest.approx(100 * pair["rate_elsewhere"])
    stars = sum("★" in text.get_text() for text in ax.texts)
    assert stars == sum(pair["is_taken_over"] for pair in pairs) > 0
    first = pairs[0]
    name = f"{first['label']} → {first['predicted']} ({first['teacher_samples']})"
    assert tick_labels(ax)[0] == name


def test_calibration_shows_both_errors():
    legend = plots.explanation(SMALL).axes[2].get_legend().get_texts()
    for text, role in zip(legend, ("teacher", "student"), strict=True):
        error = SMALL.calibration[role]["error"]
        assert text.get_text() == f"{role}: ECE {error:.3f}"


def test_the_curve_of_the_gradients_and_the_top_tenth():
    ax = plots.explanation(SMALL).axes[3]
    curve = 100 * np.array(SMALL.gradients["curve"])
    np.testing.assert_allclose(points(ax, "sum").get_xydata().T, curve)
    share = 100 * SMALL.gradients["top_share"]
    assert ax.texts[0].get_text() == f"top 10%: {share:.0f}%"


@pytest.mark.parametrize("explanation", [SMALL, LARGE], ids=["5", "100"])
def test_labels_and_legends_do_not_overlap_or_leave_the_figure(explanation):
    figure = plots.explanation(explanation)
    figure.canvas.draw()
    width, height = figure.bbox.size
    for ax in figure.axes:
        boxes = [t.get_window_extent() for t in ax.get_yticklabels() if t.get_text()]
        boxes.sort(key=lambda box: box.y0)
        assert all(a.y1 <= b.y0 + 1 for a, b in zip(boxes, boxes[1:], strict=False))
        legend = ax.get_legend().get_window_extent()
        for box in [*boxes, legend, ax.title.get_window_extent()]:
            assert box.x0 >= 0 and box.x1 <= width and 0 <= box.y0 and box.y1 <= height


def test_without_confusions_and_gradients_it_is_stated():
    values = SMALL.to_dict()
    values["confusions"] = []
    values["gradients"] |= {"top_share": None, "curve": [[0, 1], [0, 0]]}
    figure = plots.explanation(values)
    assert "No pair has enough" in figure.axes[1].texts[0].get_text()
    assert not figure.axes[3].texts


@pytest.mark.invariant(number=10)
@pytest.mark.parametrize("value", [None, {"overall": {}}, np.zeros(3)])
def test_anything_else_is_refused(value):
    with pytest.raises(TypeError, match="what `keras_dtkd.explain` returned"):
        plots.explanation(value)
