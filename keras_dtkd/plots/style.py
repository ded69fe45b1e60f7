"""Figures without pyplot, their colours, and names beside the lines."""

import itertools

# Okabe and Ito's palette, which the colour-blind can tell apart; the most unlike first.
TEACHER, STUDENT = "#D55E00", "#0072B2"
PALETTE = STUDENT, TEACHER, "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9"
GREY = "#6F7780"
FIXED = {"teacher": TEACHER, "student": STUDENT}
POINTS_PER_INCH = 72


def new_figure(width, height):
    """A figure of that many inches that belongs to no window.

    Raises:
        ImportError: There is no matplotlib.
    """
    try:
        from keras_dtkd.plots.notebook_figure import NotebookFigure
    except ImportError as error:
        raise ImportError(
            "`keras_dtkd.plots` draws with matplotlib, which cannot be imported. "
            "Install it: `pip install matplotlib`."
        ) from error
    return NotebookFigure(figsize=(width, height), layout="constrained")


def root(drawn):
    """The whole figure that axes or a part of a figure belong to."""
    return drawn.figure.figure


def colours(names):
    """A colour for each name; teacher and student always have theirs."""
    fixed = {name: FIXED[name] for name in names if name in FIXED}
    others = itertools.cycle(c for c in PALETTE if c not in fixed.values())
    return {name: fixed.get(name) or next(others) for name in names}


def clear(axes):
    """Leaves of the frame what carries a scale."""
    axes.spines[["top", "right"]].set_visible(False)


def name_ends(axes, ends, size=9):
    """Writes each line's name to the right of the axes, at the height of its end.

    Call it when the limits are final. Names that would overlap move apart; a thin
    line then leads to each.

    Args:
        axes: Where the lines are.
        ends: A tuple for each line: x and y of its end, name, colour.
        size: Of the font, in points.

    Returns:
        False, and nothing is written, if there is no room for so many.
    """
    height = axes.get_window_extent().height
    gap = 1.4 * size * root(axes).dpi / POINTS_PER_INCH / height
    if (len(ends) - 1) * gap > 1:
        return False
    to_share = axes.transData + axes.transAxes.inverted()
    placed = sorted((*to_share.transform(end[:2]), *end) for end in ends)
    placed.sort(key=lambda end: end[1])
    heights = _spread([end[1] for end in placed], gap)
    for (right, wanted, x, y, name, colour), place in zip(placed, heights, strict=True):
        # Close to its line, a name needs no other.
        far = abs(place - wanted) > gap / 3 or right < 0.9
        line = {"arrowstyle": "-", "color": colour, "lw": 0.7, "relpos": (0, 0.5)}
        axes.annotate(
            name,
            (x, y),
            (1.04 if far else 1.015, place),
            textcoords="axes fraction",
            va="center",
            color=colour,
            fontsize=size,
            arrowprops={**line, "shrinkA": 1, "shrinkB": 1} if far else None,
        )
    return True


def _spread(wanted, gap):
    """The ascending heights nearest to those wanted that lie `gap` apart, in [0, 1]."""
    blocks = []
    for row, height in enumerate(wanted):
        # Less the gaps, heights need only ascend: whoever does not, shares a mean.
        blocks.append([height - row * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (low, many), (high, more) = blocks[-2:]
            mean = (low * many + high * more) / (many + more)
            blocks[-2:] = [[mean, many + more]]
    places = [place for place, many in blocks for _ in range(many)]
    highest = 1 - (len(places) - 1) * gap
    return [min(max(p, 0), highest) + row * gap for row, p in enumerate(places)]
