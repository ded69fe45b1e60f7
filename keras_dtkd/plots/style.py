"""Figures without pyplot, their colors, and labels at the ends of lines."""

import itertools

# Okabe and Ito's color-blind-safe palette, ordered by contrast.
TEACHER, STUDENT = "#D55E00", "#0072B2"
PALETTE = STUDENT, TEACHER, "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9"
GRAY = "#6F7780"
MODEL_COLORS = {"teacher": TEACHER, "student": STUDENT}
POINTS_PER_INCH = 72


def new_figure(width, height):
    """Creates a figure, with a size in inches, that belongs to no window.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from keras_dtkd.plots.notebook_figure import NotebookFigure
    except ImportError as error:
        raise ImportError(
            "`keras_dtkd.plots` requires matplotlib, which cannot be imported. "
            "Install it: `pip install matplotlib`."
        ) from error
    return NotebookFigure(figsize=(width, height), layout="constrained")


def root_figure(artist):
    """The figure that axes or a subfigure belong to."""
    return artist.figure.figure


def colors(names):
    """A color for each name; those of teacher and student are fixed."""
    fixed = {name: MODEL_COLORS[name] for name in names if name in MODEL_COLORS}
    others = itertools.cycle(c for c in PALETTE if c not in fixed.values())
    return {name: fixed.get(name) or next(others) for name in names}


def despine(axes):
    """Hides the top and right spines."""
    axes.spines[["top", "right"]].set_visible(False)


def label_line_ends(axes, ends, size=9):
    """Writes the name of each line to the right of the axes, at the height of its end.

    Call it after the limits are set. Names that would overlap are moved apart and
    connected to their lines.

    Args:
        axes: The axes of the lines.
        ends: A tuple for each line: x and y of its end, name, color.
        size: Font size, in points.

    Returns:
        `False`, without any labels, if there is no space for all.
    """
    height = axes.get_window_extent().height
    gap = 1.4 * size * root_figure(axes).dpi / POINTS_PER_INCH / height
    if (len(ends) - 1) * gap > 1:
        return False
    to_axes = axes.transData + axes.transAxes.inverted()
    placed = sorted((*to_axes.transform(end[:2]), *end) for end in ends)
    placed.sort(key=lambda end: end[1])
    positions = _spread_positions([end[1] for end in placed], gap)
    for (right, height, x, y, name, color), position in zip(
        placed, positions, strict=True
    ):
        # A name next to its line needs no connection.
        is_far = abs(position - height) > gap / 3 or right < 0.9
        line = {"arrowstyle": "-", "color": color, "lw": 0.7, "relpos": (0, 0.5)}
        axes.annotate(
            name,
            (x, y),
            (1.04 if is_far else 1.015, position),
            textcoords="axes fraction",
            va="center",
            color=color,
            fontsize=size,
            arrowprops={**line, "shrinkA": 1, "shrinkB": 1} if is_far else None,
        )
    return True


def _spread_positions(heights, gap):
    """The positions in [0, 1] closest to ascending heights, at least `gap` apart."""
    blocks = []
    for i, height in enumerate(heights):
        # Without the gaps, positions must ascend: those that do not share their mean.
        blocks.append([height - i * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (first, n), (second, m) = blocks[-2:]
            blocks[-2:] = [[(first * n + second * m) / (n + m), n + m]]
    positions = [position for position, n in blocks for _ in range(n)]
    highest = 1 - (len(positions) - 1) * gap
    return [min(max(p, 0), highest) + i * gap for i, p in enumerate(positions)]
