"""Figures without pyplot, their colors, and the names of lines."""

import itertools

# Okabe and Ito's color-blind-safe palette, ordered by contrast.
TEACHER, STUDENT = "#D55E00", "#0072B2"
PALETTE = STUDENT, TEACHER, "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9"
GRAY = "#6F7780"
LINE_STYLES = "-", "--", ":", "-."
MODEL_COLORS = {"teacher": TEACHER, "student": STUDENT}


def new_figure(width, height):
    """Creates a figure, with a size in inches, that belongs to no window."""
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


def label_lines(axes):
    """Names the lines right of the axes, in the order of the heights of their ends."""
    lines = [line for line in axes.lines if not line.get_label().startswith("_")]
    lines.sort(key=lambda line: -line.get_ydata()[-1])
    position = {"loc": "center left", "bbox_to_anchor": (1, 0.5)}
    columns = -(-len(lines) // 16)
    axes.legend(handles=lines, ncols=columns, frameon=False, fontsize=9, **position)
