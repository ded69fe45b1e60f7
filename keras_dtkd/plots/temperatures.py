"""Temperatures of easy and hard samples."""

import numpy as np

from keras_dtkd.core.arguments import check_choice, check_positive_int
from keras_dtkd.plots import inputs, style
from keras_dtkd.temperatures import base

CALLER = "plots.temperatures"


def temperatures(
    temperature,
    student_logits,
    teacher_logits,
    labels=None,
    difficulty=None,
    by="rank",
    bins=10,
    ax=None,
):
    """Draws the temperatures of teacher and student by the difficulty of the samples.

    Each sample is a point for each model. In bins of equally many samples, a line shows
    the median and a band the quartiles. A dotted line is the mean of all. Equal
    temperatures of both models are drawn once.

    Args:
        temperature: Any of `keras_dtkd.temperatures`, or a positive number. The
            temperature of a loss (`loss.temperature`) is drawn in its current state,
            including learned weights.
        student_logits: `(..., classes)`, of any backend.
        teacher_logits: `(..., classes)`, of any backend. For a temperature that depends
            on the batch, all samples are one batch.
        labels: Integers `(...)`, or one-hot. Optional: samples that the teacher
            misclassifies are then crosses. A sample without a label (-1) is a point.
        difficulty: A number per sample, `(...)`, greater for harder ones. By default
            the entropy of the teacher's soft targets, at the mean temperature.
        by: The x axis: the samples' `"rank"`, in percent, or the `"value"` of the
            difficulty.
        bins: Number of bins. At least 1.
        ax: Axes to draw in. Optional.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: Shapes do not fit; logits look like probabilities; `by` is invalid;
            `bins` is below 1; or `difficulty` is not finite.

    Example:

    >>> loss = distiller.distillation_losses["dtkd"]
    >>> student_logits, teacher_logits = student.predict(x), teacher.predict(x)
    >>> figure = plots.temperatures(loss.temperature, student_logits, teacher_logits)
    """
    check_choice(CALLER, "by", by, ("rank", "value"))
    check_positive_int(CALLER, "bins", bins)
    temperature = base.get(temperature)
    student, teacher = inputs.validate_pair(CALLER, student_logits, teacher_logits)
    pair = inputs.temperatures_of(temperature, student, teacher)
    mean = np.mean(pair)
    measure, unit = "teacher's entropy", f"at temperature {mean:.3g}, nats"
    if difficulty is None:
        _, difficulty = inputs.soft_probs_and_entropy(teacher, mean)
    else:
        measure, unit = "given difficulty", "as given"
        difficulty = inputs.to_float64(difficulty).reshape(-1)
        num_finite = np.isfinite(difficulty).sum()
        if not len(difficulty) == len(teacher) == num_finite:
            raise ValueError(
                f"`{CALLER}`: `difficulty` must be a finite number for each of the "
                f"{len(teacher)} samples. Received: {len(difficulty)} numbers, "
                f"{num_finite} of them finite."
            )
    classes = inputs.class_indices(CALLER, labels, teacher_logits, teacher)
    is_misclassified = (classes >= 0) & (classes != teacher.argmax(-1))

    order = np.argsort(difficulty, kind="stable")
    x, xlabel = difficulty, f"{measure.capitalize()} ({unit})"
    ax = style.new_figure(7.5, 4.5).subplots() if ax is None else ax
    if by == "rank":
        x = np.empty(len(order))
        x[order] = 100 * (np.arange(len(order)) + 0.5) / len(order)
        xlabel = f"Samples from easy to hard (percentile of the {measure})"
        ax.set_xlim(0, 100)
    groups = np.array_split(order, min(bins, len(order)))
    if np.array_equal(*pair):
        # The upper of two equal curves would hide the other.
        models = [("both models'", pair[0], "black")]
    else:
        names, colors = ("student's", "teacher's"), (style.STUDENT, style.TEACHER)
        models = [*zip(names, pair, colors, strict=True)]
    for model in models:
        _draw_model(ax, x, groups, is_misclassified, *model)
    label = f"mean {mean:.3g}"
    ax.axhline(mean, color=style.GRAY, ls=":", lw=1, zorder=1, label=label)
    crosses = " (crosses: teacher is wrong)" if is_misclassified.any() else ""
    title = f"Temperatures of {type(temperature).__name__}, from easy to hard samples"
    legend = f"points: samples{crosses}; lines: medians; bands: quartiles"
    ax.set_title(f"{title}\n{legend}", fontsize=11)
    ax.set(xlabel=xlabel, ylabel="Temperature (divides the logits)")
    # A constant temperature has no range to scale the axis to.
    if np.ptp(pair) < 0.01 * mean:
        ax.set_ylim(0, 2 * mean)
    style.despine(ax)
    style.label_lines(ax)
    return style.root_figure(ax)


def _draw_model(ax, x, groups, is_misclassified, name, temperatures, color):
    # Thousands of points would make a vector file large.
    points = {"color": color, "zorder": 1, "rasterized": True}
    for mask, kind in (
        (~is_misclassified, {"marker": "o", "s": 7, "alpha": 0.25, "lw": 0}),
        (is_misclassified, {"marker": "x", "s": 14, "alpha": 0.5, "lw": 0.9}),
    ):
        ax.scatter(x[mask], temperatures[mask], **points, **kind)
    centers = [np.median(x[group]) for group in groups]
    quartiles = [np.quantile(temperatures[g], (0.25, 0.5, 0.75)) for g in groups]
    low, median, high = np.transpose(quartiles)
    ax.fill_between(centers, low, high, color=color, alpha=0.15, lw=0)
    # Where models overlap, edges keep both bands visible; the dashed line is on top.
    for edge in (low, high):
        ax.plot(centers, edge, color=color, lw=0.8, alpha=0.7)
    line_style, order = ("--", 4) if name == "student's" else ("-", 3)
    line = {"lw": 2.5, "marker": "o", "ms": 5, "zorder": order}
    ax.plot(centers, median, line_style, color=color, label=name, **line)
