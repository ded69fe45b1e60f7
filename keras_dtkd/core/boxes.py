"""Bounding boxes in NumPy: formats, and padding to one number of boxes an image.

Keras's `keras.utils.bounding_boxes` computes with tensors of the backend; data and
metrics are prepared without it, in threads and other processes too.
"""

import numpy as np

BOX_FORMATS = (
    *("xyxy", "yxyx", "xywh", "center_xywh"),
    # The same, divided by the image's height and width.
    *("rel_xyxy", "rel_yxyx", "rel_xywh", "rel_center_xywh"),
)
# The label and the coordinates of rows that hold no box, as KerasHub has them.
PADDING = -1


def to_xyxy(boxes, bounding_box_format, image_size):
    """Boxes of a format as corners in pixels, float64 `(..., 4)`.

    `image_size` is `(height, width)`, numbers or arrays that broadcast against `(...)`.
    """
    boxes = np.asarray(boxes, "float64")
    a, b, c, d = np.moveaxis(boxes, -1, 0)
    name = bounding_box_format.removeprefix("rel_")
    if name == "yxyx":
        a, b, c, d = b, a, d, c
    elif name == "center_xywh":
        a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
    elif name == "xywh":
        c, d = a + c, b + d
    corners = np.stack([a, b, c, d], -1)
    return corners * _scale(bounding_box_format, image_size)


def from_xyxy(boxes, bounding_box_format, image_size):
    """Corners in pixels `(..., 4)` as boxes of a format, float32. See `to_xyxy`."""
    boxes = np.asarray(boxes, "float64") / _scale(bounding_box_format, image_size)
    a, b, c, d = np.moveaxis(boxes, -1, 0)
    name = bounding_box_format.removeprefix("rel_")
    if name == "yxyx":
        a, b, c, d = b, a, d, c
    elif name == "center_xywh":
        a, b, c, d = (a + c) / 2, (b + d) / 2, c - a, d - b
    elif name == "xywh":
        c, d = c - a, d - b
    return np.stack([a, b, c, d], -1).astype("float32")


def pad_boxes(boxes, labels, max_boxes):
    """`{"boxes": (images, max_boxes, 4), "labels": (images, max_boxes)}`.

    `boxes` and `labels` are a list of arrays, one for each image. Rows that hold no box
    are -1, coordinates and label.
    """
    shape = len(boxes), max_boxes
    padded = {
        "boxes": np.full((*shape, 4), PADDING, "float32"),
        "labels": np.full(shape, PADDING, "int32"),
    }
    for i, (own_boxes, own_labels) in enumerate(zip(boxes, labels, strict=True)):
        padded["boxes"][i, : len(own_boxes)] = own_boxes
        padded["labels"][i, : len(own_labels)] = own_labels
    return padded


def validate_boxes(caller, labels, count=None):
    """`boxes, labels` as NumPy of `{"boxes": …, "labels": …}`; else a `ValueError`.

    `count` is the number of images, where it is known.
    """
    names = sorted(labels) if isinstance(labels, dict) else type(labels).__name__
    if not isinstance(labels, dict) or not {"boxes", "labels"} <= set(labels):
        raise ValueError(
            f"`{caller}`: labels must be a dict of `boxes` and `labels`, as KerasHub's "
            f"detectors take them. Received: {names}."
        )
    boxes, classes = np.asarray(labels["boxes"]), np.asarray(labels["labels"])
    fits = boxes.ndim == 3 and boxes.shape == (*classes.shape, 4)
    if not fits or count not in (None, len(boxes)):
        images = "images" if count is None else count
        raise ValueError(
            f"`{caller}`: `boxes` must have the shape ({images}, max_boxes, 4) and "
            f"`labels` ({images}, max_boxes). Received: boxes {boxes.shape}, labels "
            f"{classes.shape}. Pad rows without a box with -1."
        )
    return boxes, classes


def check_boxes(boxes, labels, bounding_box_format, image_size):
    """What shows that boxes have another format than stated, a sentence or `None`.

    Rows of negative labels are left out. `"xyxy"` for `"yxyx"` is found where it leaves
    the image, of `image_size` `(height, width)`.
    """
    boxes = np.asarray(boxes, "float64")[labels >= 0]
    name, largest = bounding_box_format, np.abs(boxes).max(initial=0.0)
    if name.startswith("rel_") and largest > 2.0:
        return f"boxes up to {largest:g}, which are pixels, are given as {name!r}"
    if not name.startswith("rel_") and 0.0 < largest <= 1.0:
        return f"boxes up to {largest:g}, which are no pixels, are given as {name!r}"
    is_corners = name.removeprefix("rel_") in ("xyxy", "yxyx")
    if is_corners and (boxes[:, 2:] < boxes[:, :2]).any():
        first = boxes[(boxes[:, 2:] < boxes[:, :2]).any(-1)][0].tolist()
        return f"the box {first} ends before it begins, as {name!r}"
    corners = to_xyxy(boxes, name, image_size)
    is_empty = (corners[:, 2:] <= corners[:, :2]).any(-1)
    if is_empty.any():
        row = boxes[is_empty][0].tolist()
        return f"the box {row} has no area (rows without a box are -1), as {name!r}"
    limit = 1.1 * np.asarray(image_size[::-1], "float64")
    is_outside = (corners[:, 2:] > limit).any(-1)
    # A few boxes of real data may be wrong.
    if is_outside.sum() > 0.05 * len(boxes):
        row = boxes[is_outside][0].tolist()
        return f"the box {row} leaves the image of {tuple(image_size)}, as {name!r}"
    return None


def _scale(bounding_box_format, image_size):
    if not bounding_box_format.startswith("rel_"):
        return 1.0
    height, width = (np.asarray(side, "float64") for side in image_size)
    return np.stack([width, height, width, height], -1)
