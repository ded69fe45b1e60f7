"""Soft labels of teacher and student for a few samples."""

import numbers

import numpy as np

from keras_dtkd.core.arguments import check_positive_int
from keras_dtkd.core.class_names import check_class_names
from keras_dtkd.plots import inputs, style
from keras_dtkd.temperatures import base

CALLER = "plots.soft_labels"
MAX_COLUMNS = 4


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
    """Draws the softened probabilities of both models for a few samples.

    Args:
        teacher_logits: `(..., classes)`, of any backend.
        student_logits: `(..., classes)`, of any backend.
        temperature: A positive number, or any of `keras_dtkd.temperatures`. If it
            differs between samples, the titles show it.
        class_names: A name for each class. Optional; numbers by default.
        images: An image for each sample, `(samples, height, width)` or `(samples,
            height, width, channels)` with 1, 3 or 4 channels, drawn above its bars.
            Values outside [0, 1] are rescaled, all images alike. Optional.
        labels: Integers `(...)`, or one-hot. Optional: the true class of each sample is
            then marked above its bars, and named in the title, because it may not be
            among the `top`. A sample without a label (-1) has neither.
        samples: Indices of samples; or their number, evenly spaced from the lowest to
            the highest entropy of the teacher.
        top: If there are more classes, only this many are drawn, those with the highest
            mean probability, and one bar for all others.
        figure: A figure or subfigure to draw in. Optional.

    Returns:
        The matplotlib figure. Its axes: the bars of each sample, percentages that sum
        to 100, then the images.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: Shapes do not fit; logits look like probabilities; indices are out
            of range; or `top` is below 1.

    Example:

    >>> figure = plots.soft_labels(teacher.predict(x), student.predict(x), images=x)
    """
    student, teacher = inputs.validate_pair(CALLER, student_logits, teacher_logits)
    num_classes = teacher.shape[-1]
    names = check_class_names(CALLER, class_names, num_classes)
    check_positive_int(CALLER, "top", top)
    temperature = base.get(temperature)
    pair = inputs.temperatures_of(temperature, student, teacher)
    student_p, _ = inputs.soft_probs_and_entropy(student, pair[0][:, None])
    teacher_p, entropy = inputs.soft_probs_and_entropy(teacher, pair[1][:, None])
    indices = _select_samples(samples, entropy)
    if images is not None:
        images = _select_images(images, indices, len(teacher))
    classes = inputs.class_indices(CALLER, labels, teacher_logits, teacher)
    is_constant = np.ptp(pair) < 1e-6 * np.mean(pair)

    rows, columns = -(-len(indices) // MAX_COLUMNS), min(len(indices), MAX_COLUMNS)
    height, ratios = (3, (1,)) if images is None else (4.6, (1, 1.4))
    if figure is None:
        figure = style.new_figure(max(3.6 * columns, 5), height * rows + 0.6)
    grid = figure.add_gridspec(len(ratios) * rows, columns, height_ratios=ratios * rows)
    cells = [divmod(count, MAX_COLUMNS) for count in range(len(indices))]
    axes: list = []
    for i, (row, column) in zip(indices, cells, strict=True):
        cell = grid[len(ratios) * (row + 1) - 1, column]
        ax = figure.add_subplot(cell, sharey=axes[0] if axes else None)
        axes.append(ax)
        probs = {"teacher": teacher_p[i], "student": student_p[i]}
        _draw_bars(ax, probs, names, top, classes[i])
        title = f"Sample {i}"
        if classes[i] >= 0:
            title += f", labeled {names[classes[i]]}"
        if not is_constant:
            title += f" (T: teacher {pair[1][i]:.2g}, student {pair[0][i]:.2g})"
        ax.set_title(title, fontsize=10)
        ax.set_ylabel("" if column else "Probability (%)")
    if (classes[indices] >= 0).any():
        axes[0].plot([], [], "v", color="black", ms=5, label="true class")
    legend = axes[0].get_legend_handles_labels()
    figure.legend(*legend, loc="outside lower center", ncols=3)
    if images is not None:
        for image, (row, column) in zip(images, cells, strict=True):
            ax = figure.add_subplot(grid[2 * row, column])
            ax.imshow(image, cmap="gray", vmin=0, vmax=1)
            ax.axis("off")
    title = f"Soft labels at T = {pair[1][0]:.3g}"
    if not is_constant:
        title = f"Soft labels by {type(temperature).__name__}"
    if isinstance(samples, numbers.Integral) and len(indices) > 1:
        title += ", by increasing entropy of the teacher"
    figure.suptitle(title, fontsize=12)
    return style.root_figure(figure)


def _select_images(images, indices, count):
    shape = tuple(getattr(images, "shape", None) or np.shape(images))
    is_image = len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3, 4))
    if not is_image or shape[0] != count:
        raise ValueError(
            f"`{CALLER}`: `images` must have the shape ({count}, height, width) or "
            f"({count}, height, width, 1, 3 or 4 channels), an image for each sample. "
            f"Received: shape {shape}."
        )
    selected = np.stack([inputs.to_float64(images[i]) for i in indices])
    low, high = selected.min(), selected.max()
    if low < 0 or high > 1:
        # One scale for all keeps their contrasts comparable.
        selected = (selected - low) / ((high - low) or 1.0)
    return selected[..., 0] if selected.shape[3:] == (1,) else selected


def _select_samples(samples, entropy):
    count = len(entropy)
    if isinstance(samples, numbers.Integral):
        check_positive_int(CALLER, "samples", samples)
        order = np.argsort(entropy, kind="stable")
        ranks = np.linspace(0, count - 1, min(int(samples), count)).round().astype(int)
        return order[ranks]
    return inputs.validate_indices(CALLER, samples, count)


def _draw_bars(ax, probs, names, top, true_class):
    mean = sum(probs.values())
    shown = np.arange(len(names))
    if len(names) > top:
        shown = np.argsort(-mean, kind="stable")[:top]
        names = [names[k] for k in shown] + ["others"]
        for model, p in probs.items():
            probs[model] = np.append(p[shown], max(1 - p[shown].sum(), 0.0))
    x = np.arange(len(names))
    for (model, p), shift in zip(probs.items(), (-0.2, 0.2), strict=True):
        ax.bar(x + shift, 100 * p, 0.38, color=style.MODEL_COLORS[model], label=model)
    for column in np.flatnonzero(shown == true_class):
        height = 100 * max(p[column] for p in probs.values())
        text = {"textcoords": "offset points", "ha": "center", "fontsize": 8}
        ax.annotate("▼", (column, height), (0, 2), **text)
    tilt = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    is_wide = max(map(len, names)) * len(names) > 40
    ax.set_xticks(x, names, fontsize=9, **(tilt if is_wide else {}))
    ax.tick_params(axis="x", length=0)
    ax.set_xlabel("Class" if len(shown) == len(names) else "Class, most probable first")
    style.despine(ax)
