"""What a student took from its teacher, in four panels."""

import collections.abc

import numpy as np

from keras_dtkd.core.class_names import shorten_names
from keras_dtkd.plots import style
from keras_dtkd.plots.calibration import draw_reliability

CALLER = "plots.explanation"
# Classes and confusions that are drawn, of any number.
MAX_CLASSES, MAX_CONFUSIONS = 20, 12
NAME_WIDTH = 14
KEYS = {"class_names", "overall", "classes", "confusions", "calibration", "gradients"}


def explanation(explanation, figure=None):
    """Draws accuracy and agreement by class, confusions, calibration and gradients.

    - Accuracy of both models and their agreement in each class. Of more than 20 classes
      those with the lowest agreement are drawn, and the title states of how many.
    - The teacher's confusions of at least 5 samples, at most 12: how often the student
      repeats them, and how often it has them where the teacher is right. A star marks
      those that count as taken over, see `diagnostics.Explanation`.
    - Accuracy by confidence, as in `plots.calibration`.
    - The share of KD's gradient that the samples with the largest gradients have.

    Args:
        explanation: What `keras_dtkd.explain` returned, or its `to_dict()`.
        figure: A figure or subfigure to draw in. Optional.

    Returns:
        The matplotlib figure, with four axes in this order.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: `explanation` is neither of the two.

    Example:

    >>> figure = plots.explanation(keras_dtkd.explain(teacher, student, (x, y)))
    """
    values = explanation
    if hasattr(explanation, "to_dict"):
        values = explanation.to_dict()
    if not isinstance(values, collections.abc.Mapping) or not KEYS <= set(values):
        raise TypeError(
            f"`{CALLER}`: `explanation` must be what `keras_dtkd.explain` returned, or "
            f"its `to_dict()`. Received: {type(explanation).__name__}."
        )
    names = shorten_names(values["class_names"], NAME_WIDTH)
    if figure is None:
        figure = style.new_figure(13, 9)
    axes = figure.subplots(2, 2, height_ratios=(1.3, 1)).ravel()
    _draw_classes(axes[0], values["classes"], names)
    _draw_confusions(axes[1], values["confusions"], names)
    _draw_calibration(axes[2], values["calibration"])
    _draw_gradients(axes[3], values["gradients"])
    for ax in axes:
        style.despine(ax)
    overall = values["overall"]
    figure.suptitle(
        f"Teacher and student on {values['num_samples']} samples: accuracy "
        f"{overall['teacher_accuracy']:.1%} and {overall['student_accuracy']:.1%}, "
        f"agreement {overall['agreement']:.1%}",
        fontsize=12,
    )
    return style.root_figure(figure)


def _draw_classes(ax, classes, names):
    title = "Accuracy and agreement by class"
    shown = classes
    if len(classes) > MAX_CLASSES:
        shown = sorted(classes, key=lambda c: c["agreement"])[:MAX_CLASSES]
        title = f"The {len(shown)} of {len(classes)} classes with the lowest agreement"
    y = np.arange(len(shown))
    agreement, teacher, student = (
        np.array([100 * c[key] for c in shown])
        for key in ("agreement", "teacher_accuracy", "student_accuracy")
    )
    ax.barh(y, agreement, 0.7, color=style.GRAY, alpha=0.25, label="agreement")
    ax.hlines(y, teacher, student, color=style.GRAY, lw=1.5)
    for role, x in (("teacher", teacher), ("student", student)):
        points = {"color": style.MODEL_COLORS[role], "label": f"{role}'s accuracy"}
        # The larger one stays visible behind the other.
        marker, size = ("o", 8) if role == "teacher" else ("D", 4.5)
        ax.plot(x, y, marker, ms=size, clip_on=False, **points)
    ax.set_yticks(y, [names[c["label"]] for c in shown], fontsize=9)
    ax.tick_params(axis="y", length=0)
    ax.set(xlabel="Samples of the class (%)", ylabel="Class", xlim=(0, 100))
    ax.set_ylim(len(shown) - 0.4, -0.6)
    _set_title(ax, title, columns=3)


def _draw_confusions(ax, confusions, names):
    frequent = [c for c in confusions if c["is_frequent"]]
    shown = frequent[:MAX_CONFUSIONS]
    labels = []
    for y, pair in enumerate(shown):
        color = style.STUDENT if pair["is_taken_over"] else style.PALETTE[6]
        share, rate = (
            100 * pair["taken_over_share"],
            100 * (pair["rate_elsewhere"] or 0),
        )
        ax.barh(y - 0.18, share, 0.36, color=color)
        ax.barh(y + 0.18, rate, 0.36, color=style.GRAY)
        text = f"{share:.0f}" + (" ★" if pair["is_taken_over"] else "")
        ax.text(share + 1, y - 0.18, text, va="center", fontsize=8)
        pair_names = names[pair["label"]], names[pair["predicted"]]
        labels.append(f"{' → '.join(pair_names)} ({pair['teacher_samples']})")
    legend = {
        "where the teacher has it": style.PALETTE[6],
        "taken over ★": style.STUDENT,
        "where it is right": style.GRAY,
    }
    for label, color in legend.items():
        ax.plot([], [], "s", color=color, label=label)
    ax.set_yticks(range(len(shown)), labels, fontsize=9)
    ax.tick_params(axis="y", length=0)
    ax.set(xlabel="Samples that the student confuses likewise (%)", xlim=(0, 112))
    ax.set_xticks(range(0, 101, 20))
    ax.set_ylabel("Label → teacher's prediction (samples)")
    # A few bars are not made thicker than several.
    ax.set_ylim(max(len(shown), 4) - 0.4, -0.6)
    if not shown:
        center = {"ha": "center", "va": "center", "transform": ax.transAxes}
        ax.text(0.5, 0.5, "No pair has enough of\nthe teacher's confusions", **center)
    count = len(frequent)
    of_all = f" ({len(shown)} of {count})" if count > len(shown) else ""
    _set_title(ax, f"Confusions of the teacher in the student{of_all}", columns=3)


def _draw_calibration(ax, calibration):
    ax.plot([0, 1], [0, 1], ":", color=style.GRAY, lw=1)
    for role, bins in calibration.items():
        names = "count", "correct", "confidence"
        count, correct, confidence = (np.asarray(bins[name]) for name in names)
        model = role, style.MODEL_COLORS[role]
        draw_reliability(ax, *model, count, correct, confidence, bins["error"])
    ax.set(xlabel="Confidence (top probability)", ylabel="Accuracy in the bin")
    ax.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    _set_title(ax, "Calibration", columns=2)


def _draw_gradients(ax, gradients):
    x, y = (100 * np.asarray(values) for values in gradients["curve"])
    ax.plot([0, 100], [0, 100], ":", color=style.GRAY, lw=1, label="all alike")
    ax.plot(x, y, color=style.STUDENT, lw=2, label="sum of the gradients' norms")
    ax.fill_between(x, y, x, color=style.STUDENT, alpha=0.1)
    if gradients["top_share"] is not None:
        share = 100 * gradients["top_share"]
        ax.plot([10], [share], "o", color=style.STUDENT, ms=6)
        text = f"top 10%: {share:.0f}%"
        ax.annotate(text, (10, share), (6, -12), textcoords="offset points", fontsize=9)
    ax.set(xlabel="Samples, the largest gradients first (%)")
    ax.set(ylabel="Share of the sum (%)", xlim=(0, 100), ylim=(0, 102))
    _set_title(ax, "Gradient of KD by sample", columns=2)


def _set_title(ax, title, columns):
    """The title, and below it the legend, which would cover data inside the axes."""
    position = {"loc": "lower center", "bbox_to_anchor": (0.5, 1)}
    spacing = {"handlelength": 1.2, "handletextpad": 0.4, "columnspacing": 1.0}
    ax.legend(frameon=False, fontsize=9, ncols=columns, **position, **spacing)
    ax.set_title(title, fontsize=11, pad=24)
