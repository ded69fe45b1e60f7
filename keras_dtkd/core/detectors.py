"""What KerasHub's object detectors have in common, and the boxes they are given."""

from keras_dtkd.core.boxes import check_boxes, validate_boxes
from keras_dtkd.core.layer_tree import find_data_format, get_image_size


def is_detector(model):
    """Whether a model decodes boxes from its outputs."""
    return hasattr(model, "prediction_decoder")


def has_queries(model):
    """Whether a detector's outputs are queries, which it chooses for each image."""
    parts = model, getattr(model, "backbone", None)
    return is_detector(model) and any(hasattr(part, "num_queries") for part in parts)


def find_label_format(model):
    """The format of the boxes that a detector's own loss takes, or `None`.

    KerasHub's D-FINE (0.32) computes its loss in one format, whatever its own
    `bounding_box_format`, which is that of its predictions.
    """
    if has_queries(model):
        return "rel_center_xywh"
    return getattr(model, "bounding_box_format", None)


def check_detector_labels(caller, model, images, labels):
    """Raises a `ValueError` for boxes that a detector cannot be trained on.

    `labels` are `{"boxes": (images, boxes, 4), "labels": (images, boxes)}`, NumPy.
    """
    boxes, classes = validate_boxes(caller, labels)
    box_format = find_label_format(model)
    if box_format is None:
        return
    size = get_image_size(images.shape, find_data_format(model))
    problem = check_boxes(boxes, classes, box_format, size)
    if problem is not None:
        raise ValueError(f"`{caller}`: {problem}, the format of the detector's labels.")
    num_classes = getattr(model, "num_classes", None)
    if num_classes is not None and classes.max(initial=-1) >= num_classes:
        raise ValueError(
            f"`{caller}`: there is a label {classes.max():g}, and the detector has the "
            f"classes 0 to {num_classes - 1}."
        )
    if has_queries(model) and (classes < 0).any():
        raise ValueError(
            f"`{caller}`: labels have rows without a box (-1), which the loss of "
            f"`{type(model).__name__}` counts as objects. Give batches of images with "
            "equally many boxes."
        )
