"""Boxes of teacher and student, side by side on the same images."""

import numbers

import numpy as np

from keras_dtkd.core.arguments import check_choice, check_in_range, check_positive_int
from keras_dtkd.core.boxes import BOX_FORMATS, to_xyxy, validate_boxes
from keras_dtkd.metrics.coco_ap import validate_predictions
from keras_dtkd.plots import inputs, style

CALLER = "plots.detections"
# The first ones that are not those of teacher and student.
CLASS_COLORS = *style.PALETTE[2:3], *style.PALETTE[5:], *style.PALETTE[3:5]
COLUMN_WIDTH = 3.4


def detections(
    images,
    teacher=None,
    student=None,
    labels=None,
    class_names=None,
    threshold=0.5,
    bounding_box_format="yxyx",
    samples=2,
    scores=False,
    label_format=None,
    figure=None,
):
    """Draws the boxes that teacher and student detect, side by side.

    One row for each image; columns for the labels, the teacher and the student, as far
    as they are given. The color of a box is that of its class.

    Args:
        images: `(images, height, width, channels)` with 1, 3 or 4 channels. Values
            outside [0, 1] are rescaled, all images alike.
        teacher: What `predict` of a KerasHub detector returns: `boxes`, `confidence`,
            `labels` and, if there is one, `num_detections`. Optional.
        student: The same of the student. Optional.
        labels: `{"boxes": (images, max_boxes, 4), "labels": (images, max_boxes)}`; rows
            of label -1 are padding. Optional.
        class_names: A name for each class. Optional; numbers by default.
        threshold: Detections of a lower confidence are not drawn.
        bounding_box_format: Format of the boxes, as in `keras_dtkd.datasets.bccd`.
        samples: Indices of images, or the number of images, the first ones.
        scores: Whether the confidence is written at each box.
        label_format: Format of the boxes of the labels, if it is another one.
        figure: A figure or subfigure to draw in. Optional.

    Returns:
        The matplotlib figure. Its axes are the images, row by row.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: Shapes do not fit; nothing is given to draw; or indices are out of
            range.

    Example:

    >>> figure = plots.detections(
    ...     x, teacher.predict(x), student.predict(x), y, class_names=data.class_names
    ... )
    """
    check_in_range(CALLER, "threshold", threshold, 0, 1, inclusive=True)
    label_format = label_format or bounding_box_format
    check_choice(CALLER, "bounding_box_format", bounding_box_format, BOX_FORMATS)
    check_choice(CALLER, "label_format", label_format, BOX_FORMATS)
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[3] not in (1, 3, 4) or not len(images):
        raise ValueError(
            f"`{CALLER}`: `images` must have the shape (images, height, width, 1, 3 or "
            f"4 channels). Received: shape {images.shape}."
        )
    columns = _collect(len(images), labels, teacher, student, threshold)
    for title, column in columns.items():
        name = label_format if title == "labels" else bounding_box_format
        column["boxes"] = to_xyxy(column["boxes"], name, images.shape[1:3])
    indices = _select(samples, len(images))
    shown = _to_display(images[indices])
    present: set = set()
    for column in columns.values():
        drawn = column["labels"][indices][column["valid"][indices]]
        present |= set(map(int, drawn))
    names = _name_classes(class_names, present)

    height, width = images.shape[1:3]
    row_height = COLUMN_WIDTH * height / width + 0.15
    if figure is None:
        size = COLUMN_WIDTH * len(columns), row_height * len(indices) + 0.9
        figure = style.new_figure(*size)
    axes = figure.subplots(len(indices), len(columns), squeeze=False)
    for title, ax in zip(columns, axes[0], strict=True):
        ax.set_title(title, fontsize=11, color=style.MODEL_COLORS.get(title, "black"))
    for row, index, image in zip(axes, indices, shown, strict=True):
        for ax, column in zip(row, columns.values(), strict=True):
            ax.imshow(image, cmap="gray", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
            for k in np.flatnonzero(column["valid"][index]):
                label = int(column["labels"][index, k])
                score = column["confidence"][index, k] if scores else None
                _draw_box(ax, column["boxes"][index, k], _color(label), score)
        row[0].set_ylabel(f"Image {index}", fontsize=10)
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor="none", edgecolor=_color(label), lw=2, label=name)
        for label, name in names.items()
    ]
    if handles:
        figure.legend(
            handles=handles, loc="outside lower center", ncols=min(len(handles), 8)
        )
    if teacher is not None or student is not None:
        figure.suptitle(f"Detections of confidence ≥ {threshold:g}", fontsize=12)
    return style.root_figure(figure)


def _collect(count, labels, teacher, student, threshold):
    """By title of a column, boxes with their labels, and which of them to draw."""
    columns = {}
    if labels is not None:
        boxes, classes = validate_boxes(CALLER, labels, count)
        columns["labels"] = {
            "boxes": boxes,
            "labels": classes,
            "valid": classes >= 0,
            "confidence": np.full(classes.shape, np.nan),
        }
    for title, predictions in (("teacher", teacher), ("student", student)):
        if predictions is not None:
            column = validate_predictions(CALLER, predictions, count)
            column["valid"] &= column["confidence"] >= threshold
            columns[title] = column
    if not columns:
        raise ValueError(
            f"`{CALLER}`: there is nothing to draw. Pass `teacher`, `student` or "
            "`labels`."
        )
    return columns


def _select(samples, count):
    if isinstance(samples, numbers.Integral):
        check_positive_int(CALLER, "samples", samples)
        return np.arange(min(samples, count))
    return inputs.validate_indices(CALLER, samples, count)


def _to_display(images):
    if images.dtype.kind in "ui":
        images = images / 255
    low, high = images.min(), images.max()
    if low < 0 or high > 1:
        images = (images - low) / ((high - low) or 1.0)
    return images[..., 0] if images.shape[3] == 1 else images


def _name_classes(class_names, present):
    """Names of the classes that are drawn, by label."""
    largest = max(present, default=-1)
    if class_names is not None and largest >= len(class_names):
        raise ValueError(
            f"`{CALLER}`: there are {len(class_names)} `class_names`, and a box of "
            f"class {largest}. Pass one name for each class."
        )
    names = range(largest + 1) if class_names is None else class_names
    return {label: str(names[label]) for label in sorted(present)}


def _color(label):
    return CLASS_COLORS[label % len(CLASS_COLORS)]


def _draw_box(ax, corners, color, score=None):
    from matplotlib import patheffects
    from matplotlib.patches import Rectangle

    left, top, right, bottom = corners
    # Pixel 0 is drawn from -0.5 to 0.5.
    corner, size = (left - 0.5, top - 0.5), (right - left, bottom - top)
    box = ax.add_patch(Rectangle(corner, *size, fill=False, ec=color, lw=1.4))
    # A white edge separates the color from any image.
    edge = patheffects.withStroke(linewidth=2.6, foreground="white")
    box.set_path_effects([edge])
    if score is not None and np.isfinite(score):
        label = {"facecolor": color, "edgecolor": "none", "pad": 0.6}
        text = {"fontsize": 6, "va": "bottom", "clip_on": True, "bbox": label}
        ax.text(*corner, f"{score:.2f}", **text)
