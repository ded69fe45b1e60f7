"""Bars are the softmax of both models' logits, for the selected samples."""

import numpy as np
import pytest
from keras import ops

from keras_dtkd import plots
from keras_dtkd.temperatures import Dynamic, Standardized
from tests import oracles

pytest.importorskip("matplotlib")
RNG = np.random.default_rng(0)
TEACHER = (RNG.normal(size=(20, 5)) * np.linspace(1, 9, 20)[:, None]).astype("float32")
STUDENT = RNG.normal(size=(20, 5)).astype("float32")


def heights(ax):
    """Heights of the teacher's bars, and of the student's."""
    return [np.array([bar.get_height() for bar in bars]) for bars in ax.containers]


def tick_labels(ax):
    return [tick.get_text() for tick in ax.get_xticklabels()]


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_bars_are_the_softmax_in_percent(temperature):
    figure = plots.soft_labels(TEACHER, STUDENT, temperature, samples=[3, -1])
    assert len(figure.axes) == 2
    for ax, i in zip(figure.axes, (3, 19), strict=True):
        for height, z in zip(heights(ax), (TEACHER, STUDENT), strict=True):
            expected = 100 * oracles.softmax(z[i].astype("float64") / temperature)
            np.testing.assert_allclose(height, expected, rtol=1e-4, atol=1e-5)
        assert ax.get_title() == f"Sample {i}"
    assert tick_labels(figure.axes[0]) == list("01234")
    assert f"T = {temperature:g}" in figure.get_suptitle()


def test_bars_are_at_their_class_teacher_first():
    (ax,) = plots.soft_labels(TEACHER, STUDENT, samples=1).axes
    for bars, shift in zip(ax.containers, (-0.2, 0.2), strict=True):
        centers = [bar.get_x() + bar.get_width() / 2 for bar in bars]
        np.testing.assert_allclose(centers, np.arange(5) + shift)
    assert [bars.get_label() for bars in ax.containers] == ["teacher", "student"]


def test_a_number_selects_samples_by_increasing_entropy():
    p = oracles.softmax(TEACHER.astype("float64") / 4)
    order = (-(p * np.log(p)).sum(-1)).argsort()
    figure = plots.soft_labels(TEACHER, STUDENT, samples=3)
    indices = [int(ax.get_title().split()[1]) for ax in figure.axes]
    assert indices == order[[0, 10, 19]].tolist()
    assert len(plots.soft_labels(TEACHER[:2], STUDENT[:2]).axes) == 2


def test_titles_show_the_temperatures_of_each_sample():
    z = oracles.centered(TEACHER[4].astype("float64"))
    figure = plots.soft_labels(TEACHER, STUDENT, Standardized(1.0), samples=[4])
    sigma = z.std(ddof=1)
    height, _ = heights(figure.axes[0])
    np.testing.assert_allclose(height, 100 * oracles.softmax(z / sigma), rtol=1e-4)
    assert f"teacher {sigma:.2g}, student" in figure.axes[0].get_title()
    assert "by Standardized" in figure.get_suptitle()


def test_only_the_most_probable_classes_have_bars_and_the_others_share_one():
    z = RNG.normal(size=(2, 1, 50)) * 3
    class_names = [f"class {k}" for k in range(50)]
    (ax,) = plots.soft_labels(*z, 2.0, class_names=class_names, top=6, samples=1).axes
    p = oracles.softmax(z[:, 0] / 2)
    first = np.argsort(-p.sum(0))[:6]
    assert tick_labels(ax) == [f"class {k}" for k in first] + ["others"]
    for height, expected in zip(heights(ax), 100 * p, strict=True):
        np.testing.assert_allclose(height[:-1], expected[first], rtol=1e-4)
        assert height.sum() == pytest.approx(100)


@pytest.mark.parametrize("shape", [(20, 6, 7), (20, 6, 7, 1), (20, 6, 7, 3)])
def test_images_are_drawn_above_their_bars(shape):
    images = RNG.uniform(size=shape)
    figure = plots.soft_labels(TEACHER, STUDENT, images=images, samples=[0, 7])
    assert len(figure.axes) == 4
    for ax, i, bars in zip(figure.axes[2:], (0, 7), figure.axes, strict=False):
        shown = np.asarray(ax.images[0].get_array())
        np.testing.assert_allclose(shown, np.squeeze(images[i]))
        figure.draw_without_rendering()
        assert ax.get_position().y0 > bars.get_position().y1


@pytest.mark.parametrize("scale", [255, 1000])
def test_images_outside_0_to_1_are_rescaled_alike(scale):
    images = np.zeros((20, 4, 4))
    images[0, 0, 0], images[1, 0, 0] = scale, scale / 2
    figure = plots.soft_labels(TEACHER, STUDENT, images=images, samples=[0, 1])
    tops = [np.max(ax.images[0].get_array()) for ax in figure.axes[2:]]
    assert tops == pytest.approx([1.0, 0.5])


def test_more_samples_than_columns_use_more_rows():
    figure = plots.soft_labels(TEACHER, STUDENT, samples=6)
    figure.draw_without_rendering()
    assert len(figure.axes) == 6
    first, last = figure.axes[0].get_position(), figure.axes[4].get_position()
    assert last.y1 < first.y0 and last.x0 == pytest.approx(first.x0, abs=0.01)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_tensors_of_any_dtype_are_accepted(dtype):
    tensors = [ops.cast(ops.convert_to_tensor(z), dtype) for z in (TEACHER, STUDENT)]
    images = ops.ones((20, 4, 4, 1))
    figure = plots.soft_labels(*tensors, Dynamic(rule="std"), images=images)
    assert len(figure.axes) == 6


def test_masked_classes_have_no_bar():
    masked = TEACHER.copy()
    masked[:, 2] = -np.inf
    (ax,) = plots.soft_labels(masked, STUDENT, samples=[0]).axes
    assert heights(ax)[0][2] == 0 and heights(ax)[0].sum() == pytest.approx(100)


def test_a_single_output_is_binary_classification():
    z = TEACHER[:, :1]
    (ax,) = plots.soft_labels(z, z, 1.0, ["no", "yes"], samples=[5]).axes
    yes = 100 / (1 + np.exp(-np.float64(z[5, 0])))
    assert heights(ax)[0][1] == pytest.approx(yes, rel=1e-4)


@pytest.mark.invariant(number=10)
@pytest.mark.parametrize(
    "options, message",
    [
        ({"class_names": ["cat", "dog"]}, "2 `class_names` and 5 classes"),
        ({"images": np.ones((19, 4, 4))}, r"\(20, height, width\).*\(19, 4, 4\)"),
        ({"images": np.ones((20, 4, 4, 2))}, r"shape \(20, 4, 4, 2\)"),
        ({"images": np.ones((20, 16))}, r"shape \(20, 16\)"),
        ({"samples": 0}, "at least 1.*samples=0"),
        ({"samples": [20]}, r"between 0 and 19.*\[20\]"),
        ({"samples": []}, "between 0 and 19"),
        ({"samples": [0.5]}, "between 0 and 19"),
        ({"top": 0}, "`top` must be.*top=0"),
        ({"temperature": 0.0}, "temperature"),
    ],
)
def test_invalid_arguments_raise(options, message):
    with pytest.raises(ValueError, match=message):
        plots.soft_labels(TEACHER, STUDENT, **options)


@pytest.mark.invariant(number=10)
def test_different_shapes_and_probabilities_raise():
    with pytest.raises(ValueError, match=r"plots.soft_labels.*\(20, 4\).*\(20, 5\)"):
        plots.soft_labels(TEACHER, STUDENT[:, :4])
    with pytest.raises(ValueError, match="student_logits look like probabilities"):
        plots.soft_labels(TEACHER, oracles.softmax(STUDENT))


@pytest.mark.parametrize("form", ["integers", "column", "one-hot"])
def test_the_true_class_is_marked_and_named(form):
    y = np.arange(20) % 5
    y[4] = -1
    one_hot = (y[:, None] == np.arange(5)).astype("float32")
    labels = {"integers": y, "column": y[:, None], "one-hot": one_hot}[form]
    class_names = list("abcde")
    figure = plots.soft_labels(
        TEACHER, STUDENT, class_names=class_names, labels=labels, samples=[3, 4]
    )
    marked, plain = figure.axes
    assert marked.get_title() == "Sample 3, labeled d"
    (mark,) = marked.texts
    x, height = mark.xy
    assert x == 3 and height == max(bars[3] for bars in heights(marked))
    assert plain.get_title() == "Sample 4" and not plain.texts
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "true class" in legend


def test_a_true_class_without_a_bar_is_named():
    labels = TEACHER.argmin(-1)
    (ax,) = plots.soft_labels(TEACHER, TEACHER, labels=labels, samples=[9], top=2).axes
    assert ax.get_title() == f"Sample 9, labeled {labels[9]}" and not ax.texts
