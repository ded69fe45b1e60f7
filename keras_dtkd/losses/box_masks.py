"""Where on a map the objects are, by the boxes of the labels."""

import keras
from keras import ops

from keras_dtkd.core.boxes import check_boxes
from keras_dtkd.core.detectors import find_label_format, is_detector
from keras_dtkd.core.issue import ERROR, Issue
from keras_dtkd.core.layer_tree import find_data_format, get_image_size

# A box that ends where a cell does may end a rounding error later.
ROUNDING = 1e-3


def get_relative_boxes(loss, step, bounding_box_format, data_format):
    """The boxes of a step's labels, from 0 to 1, and which of them are objects.

    `bounding_box_format` may be `"auto"`; `data_format` is that of the step's images.
    Returns `(batch, boxes, 4)`, as `x, y, x, y`, and booleans `(batch, boxes)`, `False`
    where the label is negative. Raises a `ValueError` without boxes or their format.
    """
    labels = step.y
    if not isinstance(labels, dict) or not {"boxes", "labels"} <= set(labels):
        raise ValueError(
            f"`{loss}`: the labels must be a dict of 'boxes', `(batch, boxes, 4)`, and "
            "'labels', `(batch, boxes)`, as a detector's. Received: "
            f"{sorted(labels) if isinstance(labels, dict) else type(labels).__name__}."
        )
    bounding_box_format = _resolve_format(bounding_box_format, step.student)
    if bounding_box_format is None:
        raise ValueError(
            f"`{loss}`: the student has no `bounding_box_format`. Give that of the "
            "boxes, such as `bounding_box_format='xyxy'`."
        )
    height, width = get_image_size(ops.shape(step.x), data_format)
    boxes = keras.utils.bounding_boxes.convert_format(
        ops.cast(labels["boxes"], "float32"),
        source=bounding_box_format,
        target="rel_xyxy",
        height=height,
        width=width,
    )
    is_object = ops.cast(labels["labels"], "float32") >= 0
    return boxes, ops.reshape(is_object, ops.shape(boxes)[:-1])


def find_box_issues(loss, context, bounding_box_format):
    """Issues of boxes that show another format than stated, at most one.

    `bounding_box_format` may be `"auto"`.
    """
    labels, images, student = context.sample.y, context.inputs, context.student
    has_boxes = isinstance(labels, dict) and {"boxes", "labels"} <= set(labels)
    name = _resolve_format(bounding_box_format, student)
    if not has_boxes or name is None or len(getattr(images, "shape", ())) != 4:
        return []
    if is_detector(student) and name == find_label_format(student):
        # Those are checked without any loss.
        return []
    size = get_image_size(images.shape, find_data_format(student))
    boxes, classes = labels["boxes"], labels["labels"]
    if boxes.shape[-1] != 4 or boxes.size != 4 * classes.size:
        return []
    problem = check_boxes(boxes, classes.reshape(boxes.shape[:-1]), name, size)
    if problem is None:
        return []
    message = f"`Distiller`: for `{loss}` {problem}."
    hint = "State the format of the labels' boxes: `bounding_box_format=`."
    return [Issue("box_format", ERROR, message, hint)]


def _resolve_format(bounding_box_format, student):
    if bounding_box_format == "auto":
        return find_label_format(student)
    return bounding_box_format


def compute_box_masks(boxes, is_object, height, width):
    """The weights of the positions of a map within and outside of the boxes.

    Args:
        boxes, is_object: As `get_relative_boxes` gives them.
        height, width: Of the map.

    Returns:
        `(foreground, background)`, `(batch, height, width)` each: within a box
        `1 / ((h + 1)(w + 1))`, with its height and width in cells, of several boxes the
        greatest; and outside of all a constant whose sum is 1.
    """
    size = [ops.cast(side, "float32") for side in (width, height)]
    edges = boxes * ops.stack([*size, *size])
    low, high = ops.floor(edges + ROUNDING), ops.ceil(edges - ROUNDING)
    (left, top), (right, bottom) = (
        (each[..., first], each[..., first + 1])
        for each, first in ((low, 0), (high, 2))
    )
    value = 1.0 / ((bottom - top + 1.0) * (right - left + 1.0))
    # Padding may have any size.
    value = ops.where(is_object, value, 0.0)
    rows = _find_inside(top, bottom, height)[..., :, None]
    columns = _find_inside(left, right, width)[..., None, :]
    weights = ops.where(ops.logical_and(rows, columns), value[..., None, None], 0.0)
    foreground = ops.max(weights, axis=1)
    background = ops.cast(foreground == 0, "float32")
    total = ops.sum(background, axis=(1, 2), keepdims=True)
    return foreground, background / ops.maximum(total, 1.0)


def _find_inside(first, last, size):
    """`(batch, boxes, size)`: which indices lie from `first` to `last`."""
    indices = ops.cast(ops.arange(size), "float32")
    first, last = first[..., None], last[..., None]
    return ops.logical_and(indices >= first, indices <= last)
