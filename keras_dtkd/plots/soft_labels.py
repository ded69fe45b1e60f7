"""What teacher and student say of a few samples."""

import numbers

import numpy as np

from keras_dtkd.functional.labels import one_hot
from keras_dtkd.plots import inputs, style
from keras_dtkd.temperatures import base

WHO = "plots.soft_labels"
COLUMNS = 4


def soft_labels(
    teacher_logits,
    student_logits,
    temperature=4.0,
    class_names=None,
    images=None,
    labels=None,
    samples=3,
    top=10,
    figure=None,
):
    """Draws the softened probabilities of both models side by side, sample by sample.

    Args:
        teacher_logits: `(..., classes)`, of any backend.
        student_logits: Likewise.
        temperature: A positive number, or any `keras_dtkd.temperatures` rule. Where it
            differs from sample to sample, it stands beside each.
        class_names: A name for each class. Optional; numbers by default.
        images: An image for each row, `(rows, height, width)` or `(rows, height,
            width, channels)` with 1, 3 or 4 channels, drawn above its bars. Values
            outside [0, 1] are brought into it, those drawn all alike. Optional.
        labels: Integers `(...)`, or one-hot. Optional: a mark then stands above the
            true class of each sample, which is named beside it too, for it may not be
            among the `top`. None for one without a label (-1).
        samples: Which rows; or how many, spread evenly from the one the teacher is
            most sure of to the one it wavers on most.
        top: Of more classes than this, the `top` most probable are drawn (those of
            the mean of both models), and a last bar for all others together.
        figure: A figure, or part of one, to draw in. Optional.

    Returns:
        The matplotlib figure. Its axes: the bars of each sample, percents that sum to
        100, then the images.

    Raises:
        ImportError: There is no matplotlib.
        ValueError: Shapes that do not fit, probabilities for logits, rows that are
            not there, `top` below 1.

    Example:

    >>> figure = plots.soft_labels(teacher.predict(x), student.predict(x), images=x)
    """
    student, teacher = inputs.pair(WHO, student_logits, teacher_logits)
    names = _names(class_names, teacher.shape[-1])
    if not isinstance(top, numbers.Integral) or top < 1:
        raise ValueError(
            f"`{WHO}`: `top` must be an integer of at least 1. Received: top={top!r}."
        )
    rule = base.get(temperature)
    chosen = inputs.chosen(rule, student, teacher)
    student_p, _ = inputs.softened(student, chosen[0][:, None])
    teacher_p, entropy = inputs.softened(teacher, chosen[1][:, None])
    rows, spread = _rows(samples, entropy)
    pictures = None if images is None else _pictures(images, rows, len(teacher))
    true = _true(labels, teacher_logits, teacher)
    constant = np.ptp(chosen) < 1e-6 * np.mean(chosen)

    lines, columns = -(-len(rows) // COLUMNS), min(len(rows), COLUMNS)
    ratios = (1,) if pictures is None else (1, 1.4)
    if figure is None:
        height = (3 if pictures is None else 4.6) * lines + 0.6
        figure = style.new_figure(max(3.6 * columns, 5), height)
    grid = figure.add_gridspec(
        len(ratios) * lines, columns, height_ratios=ratios * lines
    )
    places = [divmod(count, COLUMNS) for count in range(len(rows))]
    bars = [grid[len(ratios) * (line + 1) - 1, column] for line, column in places]
    first = figure.add_subplot(bars[0])
    others = (figure.add_subplot(place, sharey=first) for place in bars[1:])
    for row, (_, column), ax in zip(rows, places, (first, *others), strict=True):
        both = {"teacher": teacher_p[row], "student": student_p[row]}
        _draw_bars(ax, both, names, top, true[row])
        label = "" if true[row] is None else f", labelled {names[true[row]]}"
        told = f" (T: teacher {chosen[1][row]:.2g}, student {chosen[0][row]:.2g})"
        told = f"Sample {row}{label}{'' if constant else told}"
        ax.set_title(told, fontsize=10)
        ax.set_ylabel("" if column else "Probability (%)")
    marked = any(true[row] is not None for row in rows)
    _make_room_for_legend(first, marked)
    if pictures is not None:
        for picture, (line, column) in zip(pictures, places, strict=True):
            _draw_image(figure.add_subplot(grid[2 * line, column]), picture)
    told = f"at T = {chosen[1][0]:.3g}" if constant else f"by {type(rule).__name__}"
    order = ", from where the teacher is sure to where it wavers"
    figure.suptitle(
        f"Soft labels {told}{order if spread and len(rows) > 1 else ''}", fontsize=12
    )
    return style.root(figure)


def _names(names, classes):
    names = [str(name) for name in (range(classes) if names is None else names)]
    if len(names) != classes:
        raise ValueError(
            f"`{WHO}`: there are {len(names)} `class_names` and {classes} classes. "
            "Give one for each."
        )
    return names


def _true(labels, given, teacher):
    """The number of each row's true class, or `None`."""
    if labels is None:
        return [None] * len(teacher)
    shape = inputs.numbers(given).shape
    label = inputs.numbers(one_hot(inputs.labels(WHO, labels, shape), teacher))
    return [int(row.argmax()) if row.any() else None for row in label]


def _pictures(images, rows, count):
    """The images of these rows, within [0, 1]."""
    shape = tuple(getattr(images, "shape", None) or np.shape(images))
    fit = len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3, 4))
    if not fit or shape[0] != count:
        raise ValueError(
            f"`{WHO}`: `images` must have the shape ({count}, height, width) or "
            f"({count}, height, width, 1, 3 or 4 channels), an image for each row of "
            f"logits. Received: shape {shape}."
        )
    drawn = np.stack([inputs.numbers(images[row]) for row in rows])
    low, high = drawn.min(), drawn.max()
    if low < 0 or high > 1:
        # All alike: a faint one must look faint.
        drawn = (drawn - low) / ((high - low) or 1.0)
    return drawn[..., 0] if drawn.shape[3:] == (1,) else drawn


def _rows(samples, entropy):
    """Which rows are drawn, and whether they were chosen by the teacher's entropy."""
    count = len(entropy)
    if isinstance(samples, numbers.Integral):
        if samples < 1:
            raise ValueError(
                f"`{WHO}`: `samples` must be at least 1. Received: samples={samples}."
            )
        order = np.argsort(entropy, kind="stable")
        ranks = np.linspace(0, count - 1, min(int(samples), count)).round().astype(int)
        return order[ranks].tolist(), True
    rows = np.asarray(samples)
    fit = rows.ndim == 1 and rows.size and rows.dtype.kind in "iu"
    if not fit or rows.min() < -count or rows.max() >= count:
        raise ValueError(
            f"`{WHO}`: `samples` must be a number of samples or a list of rows between "
            f"0 and {count - 1}. Received: samples={samples!r}."
        )
    return (rows % count).tolist(), False


def _draw_bars(ax, both, names, top, true):
    mean = sum(both.values())
    shown = np.arange(len(names))
    if len(names) > top:
        shown = np.argsort(-mean, kind="stable")[:top]
        names = [names[k] for k in shown] + ["others"]
        both = {
            who: np.append(p[shown], max(1 - p[shown].sum(), 0.0))
            for who, p in both.items()
        }
    place = np.arange(len(names))
    for (who, p), shift in zip(both.items(), (-0.2, 0.2), strict=True):
        ax.bar(place + shift, 100 * p, 0.38, color=style.FIXED[who], label=who)
    for column in np.flatnonzero(shown == true):
        top = 100 * max(p[column] for p in both.values())
        text = {"textcoords": "offset points", "ha": "center", "fontsize": 8}
        ax.annotate("▼", (column, top), (0, 2), **text)
    turned = max(map(len, names)) * len(names) > 40
    ax.set_xticks(
        place,
        names,
        rotation=45 if turned else 0,
        ha="right" if turned else "center",
        rotation_mode="anchor" if turned else "default",
        fontsize=9,
    )
    ax.tick_params(axis="x", length=0)
    ax.set_xlabel("Class" if len(shown) == len(names) else "Class, most probable first")
    style.clear(ax)


def _make_room_for_legend(ax, marked):
    """Above the bars of all samples, whose axes share their height."""
    if marked:
        ax.plot([], [], "v", color="black", ms=5, label="true class")
    height = ax.get_ylim()[1]
    ax.set_yticks([tick for tick in ax.get_yticks() if tick <= min(height, 100)])
    ax.set_ylim(0, (1.45 if marked else 1.3) * height)
    ax.legend(frameon=False, loc="upper left", fontsize=9)


def _draw_image(ax, image):
    ax.imshow(image, cmap="gray", vmin=0, vmax=1)
    ax.axis("off")
