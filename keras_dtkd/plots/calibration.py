"""Reliability diagrams: accuracy by confidence."""

import numpy as np

from keras_dtkd.metrics.expected_calibration_error import ExpectedCalibrationError
from keras_dtkd.plots import inputs, style

CALLER = "plots.calibration"


def calibration(labels, outputs, bins=15, from_logits=True, figure=None):
    """Draws a reliability diagram and a histogram of the confidences.

    Each bin of confidences is a point, at their mean and the accuracy. Thin lines
    connect the points to the diagonal, on which a calibrated model lies; below it a
    model is overconfident. The size of a point shows the number of samples. The legend
    shows the `metrics.ExpectedCalibrationError`.

    Args:
        labels: Integers, `(...)` or `(..., 1)`, or one-hot. A sample without a label
            (such as -1) is ignored.
        outputs: A dict from names, such as `"teacher"` and `"student"`, to the outputs
            of each model, `(..., classes)`, or `(..., 1)` for two classes.
        bins: Number of bins of equal width. At least 1.
        from_logits: Whether the outputs are logits or probabilities.
        figure: A figure or subfigure to draw in. Optional.

    Returns:
        The matplotlib figure, with two axes: the diagram and the histogram.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: `outputs` is not a dict.
        ValueError: There are no outputs or no labels; shapes do not fit; outputs
            contradict `from_logits`; or `bins` is below 1.

    Reference:
        Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599,
        figure 1, which has bars; points leave room for several models.

    Example:

    >>> outputs = {"teacher": teacher.predict(x), "student": student.predict(x)}
    >>> figure = plots.calibration(y, outputs)
    """
    example = "{'teacher': teacher_outputs, 'student': student_outputs}"
    inputs.validate_dict(CALLER, "outputs", outputs, example)
    statistics = {
        name: _bin_statistics(name, labels, value, bins, from_logits)
        for name, value in outputs.items()
    }
    if figure is None:
        figure = style.new_figure(5.5, 6.5)
    top, bottom = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    top.plot([0, 1], [0, 1], ":", color=style.GRAY, lw=1)
    for name, color in style.colors(statistics).items():
        _draw_model(top, bottom, name, color, *statistics[name])
    text = {"color": style.GRAY, "fontsize": 9, "style": "italic"}
    top.text(0.97, 0.04, "overconfident", ha="right", **text)
    top.text(0.03, 0.95, "underconfident", **text)
    figure.suptitle("Calibration: accuracy by confidence", fontsize=11)
    top.set(ylabel="Accuracy in the bin", xlim=(0, 1), ylim=(-0.02, 1.02))
    # Inside the axes, it would cover lines.
    position = {"loc": "lower center", "bbox_to_anchor": (0.5, 1)}
    top.legend(frameon=False, fontsize=9, ncols=2, **position)
    bottom.set(xlabel="Confidence (top probability)", ylabel="Samples (%)")
    for ax in (top, bottom):
        style.despine(ax)
    return style.root_figure(figure)


def _bin_statistics(name, labels, outputs, bins, from_logits):
    """Counts, correct counts and summed confidences of each bin, and the error."""
    array = inputs.to_float64(outputs)
    inputs.validate_outputs(CALLER, f"the outputs of {name!r}", array, from_logits)
    labels = inputs.flatten_labels(CALLER, labels, array.shape)
    metric = ExpectedCalibrationError(bins, from_logits)
    metric.update_state(labels, array.reshape(-1, array.shape[-1]).astype("float32"))
    variables = metric.count, metric.correct, metric.confidence
    sums = [inputs.to_float64(variable.value) for variable in variables]
    if not sums[0].sum():
        raise ValueError(f"`{CALLER}`: no sample has a valid label.")
    return *sums, float(metric.result())


def _draw_model(top, bottom, name, color, count, correct, confidence, error):
    fraction = count / count.sum()
    draw_reliability(top, name, color, count, correct, confidence, error)
    edges = np.linspace(0, 1, len(count) + 1)
    bottom.stairs(100 * fraction, edges, color=color, lw=1.5, label=name)
    bottom.stairs(100 * fraction, edges, color=color, alpha=0.15, fill=True)


def draw_reliability(ax, name, color, count, correct, confidence, error):
    """Draws one model's points of a reliability diagram.

    The sums over each bin are those of `metrics.ExpectedCalibrationError`, NumPy, and
    `error` is its result.
    """
    is_filled, fraction = count > 0, count / count.sum()
    x, y = (v[is_filled] / count[is_filled] for v in (confidence, correct))
    ax.vlines(x, x, y, color=color, lw=1, alpha=0.6)
    ax.plot(x, y, color=color, lw=1.5, label=f"{name}: ECE {error:.3f}", marker=".")
    # Bins of few samples matter less, but must be visible.
    sizes = 15 + 150 * fraction[is_filled]
    ax.scatter(x, y, sizes, color=color, alpha=0.7, zorder=3, clip_on=False)
