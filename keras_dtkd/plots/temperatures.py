"""Which temperatures a rule gives to easy and to hard samples."""

import numpy as np

from keras_dtkd.functional.labels import one_hot
from keras_dtkd.plots import inputs, style
from keras_dtkd.temperatures import base

WHO = "plots.temperatures"


def temperatures(
    rule,
    student_logits,
    teacher_logits,
    labels=None,
    difficulty=None,
    by="rank",
    bins=10,
    ax=None,
):
    """Draws the temperatures of teacher and student by the samples' difficulty.

    Every sample is a point for each model; over bins of equally many samples a line
    gives the median and a band the quartiles. A dotted line is the mean of all. Where a
    rule gives both models the same, they are drawn as one.

    Args:
        rule: Any `keras_dtkd.temperatures` rule, or a positive number. That of a loss
            (`loss.temperature`) is drawn as it stands, learned parts included.
        student_logits: `(..., classes)`, of any backend.
        teacher_logits: Likewise. All rows are one batch for a rule that couples them.
        labels: Integers `(...)`, or one-hot. Optional: samples on which the teacher is
            wrong are then crosses. One without a label (-1) stays a point.
        difficulty: One number a row, `(...)`, the greater the harder. By default the
            entropy of the teacher's soft targets, at the mean of all temperatures.
        by: What the x axis shows: the samples' `"rank"`, in percent, or the
            difficulty's `"value"`.
        bins: How many. At least 1.
        ax: Axes to draw in. Optional.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: There is no matplotlib.
        ValueError: Shapes that do not fit, probabilities for logits, another `by`,
            `bins` below 1, a `difficulty` that is not finite.

    Example:

    >>> loss = distiller.distillation_losses["dtkd"]
    >>> student_logits, teacher_logits = student.predict(x), teacher.predict(x)
    >>> figure = plots.temperatures(loss.temperature, student_logits, teacher_logits)
    """
    if by not in ("rank", "value"):
        raise ValueError(
            f"`{WHO}`: `by` must be 'rank' or 'value'. Received: by={by!r}."
        )
    if bins < 1:
        raise ValueError(
            f"`{WHO}`: `bins` must be at least 1. Received: bins={bins!r}."
        )
    rule = base.get(rule)
    student, teacher = inputs.pair(WHO, student_logits, teacher_logits)
    chosen = inputs.chosen(rule, student, teacher)
    mean = np.mean(chosen)
    what, unit = "teacher's entropy", f"at temperature {mean:.3g}, nats"
    if difficulty is None:
        difficulty = inputs.softened(teacher, mean)[1]
    else:
        what, unit = "given difficulty", "as given"
        difficulty = _difficulty(difficulty, len(teacher))
    wrong = np.zeros(len(teacher), bool)
    if labels is not None:
        shape = inputs.numbers(teacher_logits).shape
        wrong = _wrong(inputs.labels(WHO, labels, shape), teacher)

    order = np.argsort(difficulty, kind="stable")
    place = difficulty
    if by == "rank":
        place = np.empty(len(order))
        place[order] = 100 * (np.arange(len(order)) + 0.5) / len(order)
    if ax is None:
        ax = style.new_figure(7.5, 4.5).subplots()
    parts = np.array_split(order, min(bins, len(order)))
    sides = [
        ("student's", chosen[0], style.STUDENT),
        ("teacher's", chosen[1], style.TEACHER),
    ]
    if np.array_equal(*chosen):
        # One over the other, only the upper would be seen.
        sides = [("both models'", chosen[0], "black")]
    ends = [_draw(ax, place, parts, wrong, *side) for side in sides]
    ax.axhline(mean, color=style.GREY, ls=":", lw=1, zorder=1)
    crosses = " (crosses: the teacher is wrong)" if wrong.any() else ""
    by_rank = f"Samples from easy to hard (percentile of the {what})"
    ax.set(
        title=f"Temperatures that {type(rule).__name__} gives, from easy samples to "
        f"hard\npoints: samples{crosses}; lines: medians; bands: quartiles",
        xlabel=by_rank if by == "rank" else f"{what.capitalize()} ({unit})",
        ylabel="Temperature (divides the logits)",
        xlim=(0, 100) if by == "rank" else None,
    )
    ax.title.set_fontsize(11)
    # A constant temperature has no range of its own.
    if np.ptp(chosen) < 0.01 * mean:
        ax.set_ylim(0, 2 * mean)
    style.clear(ax)
    right = ax.get_xlim()[1]
    style.name_ends(ax, [*ends, (right, mean, f"mean {mean:.3g}", style.GREY)])
    return style.root(ax)


def _draw(ax, place, parts, wrong, name, chosen, colour):
    """Points, medians and quartiles of one model; where the median ends."""
    for marker, these, size, alpha in (("o", ~wrong, 7, 0.25), ("x", wrong, 14, 0.5)):
        ax.scatter(
            place[these],
            chosen[these],
            s=size,
            marker=marker,
            color=colour,
            alpha=alpha,
            lw=0 if marker == "o" else 0.9,
            zorder=1,
            # Thousands of points would make a vector file heavy.
            rasterized=True,
        )
    x = [np.median(place[part]) for part in parts]
    low, middle, high = np.array(
        [np.quantile(chosen[part], (0.25, 0.5, 0.75)) for part in parts]
    ).T
    ax.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
    # The two may lie over each other: each band has an edge, the dashed line is on top.
    for edge in (low, high):
        ax.plot(x, edge, color=colour, lw=0.8, alpha=0.7)
    dashed = name == "student's"
    style, order = ("--", 4) if dashed else ("-", 3)
    line = {"lw": 2.5, "marker": "o", "ms": 5, "zorder": order}
    ax.plot(x, middle, style, color=colour, label=name, **line)
    return x[-1], middle[-1], name, colour


def _difficulty(value, rows):
    value = inputs.numbers(value).reshape(-1)
    if len(value) != rows or not np.isfinite(value).all():
        raise ValueError(
            f"`{WHO}`: `difficulty` must be one finite number for each of the {rows} "
            f"rows of logits. Received: {len(value)} numbers, "
            f"{np.isfinite(value).sum()} of them finite."
        )
    return value


def _wrong(labels, teacher):
    label = inputs.numbers(one_hot(labels, teacher))
    right = label.argmax(-1) == teacher.argmax(-1)
    return (label.sum(-1) > 0) & ~right
