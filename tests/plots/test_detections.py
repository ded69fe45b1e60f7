"""Rectangles are the boxes of labels, teacher and student."""

import numpy as np
import pytest

from keras_dtkd import plots
from keras_dtkd.core.boxes import from_xyxy

pytest.importorskip("matplotlib")
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(3, 40, 60, 3))
# Corners; the last row is padding.
BOXES = np.array([[[5, 10, 25, 30], [20, 5, 50, 35], [-1] * 4]] * 3, "float64")
BOXES[:, :2] += np.arange(3)[:, None, None]
LABELS = {"boxes": BOXES, "labels": np.array([[0, 2, -1]] * 3)}


def predictions(shift, confidence=(0.9, 0.3, 0.8)):
    return {
        "boxes": BOXES + shift,
        "labels": np.array([[0, 1, 2]] * 3),
        "confidence": np.array([confidence] * 3),
        "num_detections": np.array([2, 2, 2]),
    }


def draw(*args, **options):
    options = {"bounding_box_format": "xyxy", **options}
    return plots.detections(IMAGES, *args, **options)


def corners(ax):
    """Corners in pixels of the rectangles."""
    found = [(*p.get_xy(), p.get_width(), p.get_height()) for p in ax.patches]
    array = np.array(found).reshape(-1, 4)
    array[:, 2:] += array[:, :2]
    return array + 0.5


def test_columns_hold_the_boxes_of_labels_teacher_and_student():
    figure = draw(predictions(1.0), predictions(2.0), LABELS, samples=[2, 0])
    assert len(figure.axes) == 6
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["labels", "teacher", "student", "", "", ""]
    for axes, i in ((figure.axes[:3], 2), (figure.axes[3:], 0)):
        assert axes[0].get_ylabel() == f"Image {i}"
        np.testing.assert_allclose(corners(axes[0]), BOXES[i, :2])
        # The second detection is below the threshold, the third after their number.
        np.testing.assert_allclose(corners(axes[1]), BOXES[i, :1] + 1)
        np.testing.assert_allclose(corners(axes[2]), BOXES[i, :1] + 2)
        for ax in axes:
            np.testing.assert_allclose(ax.images[0].get_array(), IMAGES[i])
    assert figure.get_suptitle() == "Detections of confidence ≥ 0.5"


def test_the_threshold_chooses_detections():
    assert len(draw(predictions(0), threshold=0.2).axes[0].patches) == 2
    assert len(draw(predictions(0), threshold=0.3).axes[0].patches) == 2
    assert len(draw(predictions(0), threshold=0.95).axes[0].patches) == 0


@pytest.mark.parametrize("name", ["yxyx", "center_xywh", "rel_xywh"])
def test_boxes_of_any_format(name):
    labels = {**LABELS, "boxes": from_xyxy(BOXES, name, (40, 60))}
    figure = draw(labels=labels, bounding_box_format=name, samples=1)
    np.testing.assert_allclose(corners(figure.axes[0]), BOXES[0, :2], atol=1e-4)
    assert figure.get_suptitle() == ""


def test_labels_may_have_a_format_of_their_own():
    labels = {**LABELS, "boxes": from_xyxy(BOXES, "rel_center_xywh", (40, 60))}
    options = {"label_format": "rel_center_xywh", "samples": 1}
    figure = draw(predictions(1), labels=labels, **options)
    np.testing.assert_allclose(corners(figure.axes[0]), BOXES[0, :2], atol=1e-4)
    np.testing.assert_allclose(corners(figure.axes[1]), BOXES[0, :1] + 1)


def test_a_class_has_one_color_and_its_name_in_the_legend():
    figure = draw(predictions(1), None, LABELS, class_names=["a", "b", "c"])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "c"]
    edges = [handle.get_edgecolor() for handle in legend.get_patches()]
    labels, teacher = (
        [box.get_edgecolor() for box in ax.patches] for ax in figure.axes[:2]
    )
    assert labels == edges and teacher == edges[:1]
    (legend,) = draw(labels=LABELS).legends
    assert [text.get_text() for text in legend.get_texts()] == ["0", "2"]


def test_scores_are_written_at_their_boxes():
    figure = draw(predictions(1), labels=LABELS, scores=True, samples=1)
    assert [text.get_text() for text in figure.axes[1].texts] == ["0.90"]
    assert not figure.axes[0].texts


@pytest.mark.parametrize("kind", ["uint8", "range", "gray"])
def test_images_of_any_range(kind):
    images = {
        "uint8": (IMAGES * 255).astype("uint8"),
        "range": IMAGES * 4 - 2,
        "gray": IMAGES[..., :1],
    }[kind]
    figure = plots.detections(images, labels=LABELS, samples=1)
    shown = np.asarray(figure.axes[0].images[0].get_array())
    assert shown.min() >= 0 and shown.max() <= 1
    assert np.ptp(shown) > 0.9


def test_it_draws_in_a_figure_of_ones_own():
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    assert draw(labels=LABELS, figure=figure.subfigures(1, 2)[1]) is figure


@pytest.mark.parametrize(
    "match, options",
    [
        ("nothing to draw", {}),
        ("`threshold` must be", {"threshold": 2, "labels": LABELS}),
        ("`samples` must be a number of samples", {"samples": [3], "labels": LABELS}),
        ("2 `class_names`, and a box of class 2", {"class_names": "ab"}),
        ("predictions must be a dict", {"student": BOXES}),
        (
            r"must have the shape \(3, max_boxes, 4\)",
            {"labels": {**LABELS, "boxes": 1}},
        ),
    ],
)
def test_invalid_arguments_are_refused(match, options):
    if "class_names" in options:
        options = {**options, "labels": LABELS}
    with pytest.raises(ValueError, match=match):
        draw(**options)


def test_images_must_be_images():
    with pytest.raises(ValueError, match="`images` must have the shape"):
        plots.detections(IMAGES[0], labels=LABELS)
