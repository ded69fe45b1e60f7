"""Lines are attention, and names of classes do not overlap."""

import numpy as np
import pytest

from keras_dtkd import plots
from tests.models.mixtures import mixture

matplotlib = pytest.importorskip("matplotlib")
RNG = np.random.default_rng(0)


def tree(classes=10):
    shapes = (4, 2), (8, 4), (classes, 8)
    return [RNG.dirichlet(np.ones(p), size=c) for c, p in shapes]


def harden(arrays):
    return [np.eye(a.shape[1])[a.argmax(-1)] for a in arrays]


def lines(ax):
    """Ends, width and opacity of each line, level by level."""
    kind = matplotlib.collections.LineCollection
    return [
        list(
            zip(
                *(c.get_segments(), c.get_linewidths(), c.get_colors()[:, 3]),
                strict=True,
            )
        )
        for c in ax.collections
        if isinstance(c, kind)
    ]


def class_labels(ax):
    return [label for label in ax.get_yticklabels() if label.get_text()]


def test_each_connection_is_a_line_from_parent_to_child():
    hard = harden(tree())
    figure = plots.mixture_tree(hard)
    figure.draw_without_rendering()
    (ax,) = figure.axes
    assert [len(level) for level in lines(ax)] == [4, 8, 10]
    order = [int(label.get_text()) for label in class_labels(ax)]
    ticks = dict(zip(order, ax.get_yticks(), strict=True))
    # Lines to classes end at these, and those of one block start at one place.
    starts = {}
    for (start, end), *_ in lines(ax)[-1]:
        (name,) = (n for n, y in ticks.items() if np.isclose(y, end[1]))
        starts.setdefault(hard[-1][name].argmax(), set()).add(round(start[1], 6))
    assert all(len(places) == 1 for places in starts.values())
    assert len(set.union(*starts.values())) == len(starts)


def test_width_and_opacity_grow_with_attention():
    arrays = [np.array([[0.9, 0.1], [0.3, 0.7], [0.995, 0.005]])]
    (level,) = lines(plots.mixture_tree(arrays).axes[0])
    widths, opacities = np.transpose([line[1:] for line in level])
    # The weakest is left out.
    np.testing.assert_allclose(widths / widths[-1] * 0.995, [0.1, 0.3, 0.7, 0.9, 0.995])
    assert (np.diff(opacities) > 0).all()


def test_a_tree_has_no_crossings():
    for level in lines(plots.mixture_tree(harden(tree(40))).axes[0]):
        ends = sorted((start[1], end[1]) for (start, end), *_ in level)
        assert (np.diff([end for _, end in ends]) > 0).all()


@pytest.mark.parametrize("classes", [10, 100])
def test_names_do_not_overlap(classes):
    before = tree(classes)
    names = [f"a long name {n}" for n in range(classes)]
    figure = plots.mixture_tree(before, harden(before), names)
    figure.draw_without_rendering()
    boxes = []
    for ax in figure.axes:
        assert len(class_labels(ax)) == classes
        rows = sorted(
            (t.get_window_extent() for t in class_labels(ax)), key=lambda b: b.y0
        )
        boxes.append(rows)
        assert all(a.y1 <= b.y0 + 0.5 for a, b in zip(rows, rows[1:], strict=False))
        assert max(box.x1 for box in rows) <= figure.bbox.x1
    # The second tree begins right of the first one's names.
    assert max(box.x1 for box in boxes[0]) < figure.axes[1].bbox.x0


def test_mixtures_are_drawn_in_one_order():
    model = mixture()
    figure = plots.mixture_tree(model, model.harden(), titles=("soft", "tree"))
    figure.draw_without_rendering()
    orders = [[t.get_text() for t in class_labels(ax)] for ax in figure.axes]
    assert orders[0] == orders[1]
    assert [ax.get_title() for ax in figure.axes] == ["soft", "tree"]


def test_an_unused_block_is_an_empty_circle():
    arrays = [np.array([[1.0, 0, 0], [1.0, 0, 0], [0, 0, 1.0]])]
    kind = matplotlib.collections.PathCollection
    blocks = next(
        c for c in plots.mixture_tree(arrays).axes[0].collections if isinstance(c, kind)
    )
    white = [tuple(color[:3]) == (1, 1, 1) for color in blocks.get_facecolors()]
    assert white == [False, True, False]
    assert blocks.get_sizes()[0] > blocks.get_sizes()[2] > blocks.get_sizes()[1]


@pytest.mark.invariant(number=10)
@pytest.mark.parametrize(
    "args, error, message",
    [
        ((3,), TypeError, "`before` must be a `HierarchicalMixture`.*int"),
        (([],), TypeError, "`before` must be"),
        (([np.ones(3)],), ValueError, r"shapes \(children, parents\).*\(3,\)"),
        (([np.eye(2), np.eye(3)],), ValueError, r"\(2, 2\), \(3, 3\)"),
        (([2 * np.eye(2)],), ValueError, "rows of `before` must be distributions"),
        (([np.full((2, 2), np.nan)],), ValueError, "must be distributions"),
        (([np.eye(2)], [np.eye(3)]), ValueError, "the same levels"),
        (([np.eye(2)], None, ["a"]), ValueError, "`class_names` must have 2.*1"),
        (([np.eye(2)], None, None, ()), ValueError, "`titles` must have 1"),
    ],
)
def test_wrong_arguments_raise(args, error, message):
    with pytest.raises(error, match=message):
        plots.mixture_tree(*args)
