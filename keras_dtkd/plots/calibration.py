"""How often models are right, at each confidence."""

import collections.abc

import numpy as np
from keras import ops

from keras_dtkd.metrics.expected_calibration_error import ExpectedCalibrationError
from keras_dtkd.plots import inputs, style

WHO = "plots.calibration"


def calibration(labels, outputs, bins=15, from_logits=True, figure=None):
    """Draws a reliability diagram, and below it how many samples have each confidence.

    For each bin of confidences a point: across, their mean; up, the share that is
    right. Thin lines are the gaps to the diagonal, on which a calibrated model lies;
    below it a model is too confident. The greater a point, the more samples it stands
    for. The legend gives the `metrics.ExpectedCalibrationError`.

    Args:
        labels: Integers, `(...)` or `(..., 1)`, or one-hot. A sample without one (such
            as -1) counts nowhere.
        outputs: A dict of names, such as `"teacher"` and `"student"`, with the outputs
            of each, `(..., classes)`, or `(..., 1)` for a choice of two.
        bins: How many bins of equal width. At least 1.
        from_logits: Whether the outputs are logits, or probabilities.
        figure: A figure, or part of one, to draw in. Optional.

    Returns:
        The matplotlib figure. Its axes: the diagram, the histogram.

    Raises:
        ImportError: There is no matplotlib.
        TypeError: `outputs` is no dict.
        ValueError: There are no outputs or no labels, shapes that do not fit,
            probabilities for logits or the other way round, `bins` below 1.

    Reference:
        Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599,
        figure 1. They draw bars of the accuracy; points leave room for several models.

    Example:

    >>> outputs = {"teacher": teacher.predict(x), "student": student.predict(x)}
    >>> figure = plots.calibration(y, outputs)
    """
    if not isinstance(outputs, collections.abc.Mapping):
        raise TypeError(
            f"`{WHO}`: `outputs` must be a dict, such as {{'teacher': teacher_outputs, "
            f"'student': student_outputs}}. Received: {type(outputs).__name__}."
        )
    if not outputs:
        raise ValueError(f"`{WHO}`: `outputs` is empty. Give at least one model's.")
    found = {
        name: _measured(name, labels, value, bins, from_logits)
        for name, value in outputs.items()
    }
    if figure is None:
        figure = style.new_figure(5.5, 6.5)
    top, bottom = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    top.plot([0, 1], [0, 1], ":", color=style.GREY, lw=1)
    for name, colour in style.colours(found).items():
        _draw(top, bottom, name, colour, *found[name])
    words = {"color": style.GREY, "fontsize": 9, "style": "italic"}
    top.text(0.97, 0.04, "too confident", ha="right", **words)
    top.text(0.03, 0.95, "not confident enough", **words)
    figure.suptitle("Calibration: how often right, at each confidence", fontsize=11)
    top.set(
        ylabel="Accuracy in the bin (share right)",
        xlim=(0, 1),
        ylim=(-0.02, 1.02),
    )
    # Within, it would cover the lines of one model or another.
    above = {"loc": "lower center", "bbox_to_anchor": (0.5, 1)}
    top.legend(frameon=False, fontsize=9, ncols=2, **above)
    bottom.set(xlabel="Confidence (top probability)", ylabel="Samples (%)")
    for ax in (top, bottom):
        style.clear(ax)
    return style.root(figure)


def _measured(name, labels, outputs, bins, from_logits):
    """Counts, correct ones and summed confidences a bin, and the error."""
    array = inputs.numbers(outputs)
    inputs.check_outputs(WHO, f"the outputs of {name!r}", array, from_logits)
    rows = inputs.labels(WHO, labels, array.shape)
    metric = ExpectedCalibrationError(bins, from_logits)
    metric.update_state(rows, array.reshape(-1, array.shape[-1]).astype("float32"))
    sums = [
        inputs.numbers(ops.convert_to_tensor(values))
        for values in (metric.count, metric.correct, metric.confidence)
    ]
    if not sums[0].sum():
        raise ValueError(f"`{WHO}`: no sample has a label that names a class.")
    return *sums, float(metric.result())


def _draw(top, bottom, name, colour, count, correct, confidence, error):
    some = count > 0
    x, y = confidence[some] / count[some], correct[some] / count[some]
    share = count / count.sum()
    top.vlines(x, x, y, color=colour, lw=1, alpha=0.6)
    top.plot(x, y, color=colour, lw=1.5, label=f"{name}: ECE {error:.3f}", marker=".")
    # A bin of few samples is no news, but must be seen.
    top.scatter(
        x, y, s=15 + 150 * share[some], color=colour, alpha=0.7, zorder=3, clip_on=False
    )
    edges = np.linspace(0, 1, len(count) + 1)
    bottom.stairs(100 * share, edges, color=colour, lw=1.5, label=name)
    bottom.stairs(100 * share, edges, color=colour, alpha=0.15, fill=True)
