"""COCO's average precision of detections, by pycocotools."""

import contextlib
import io

import numpy as np

from keras_dtkd.core.arguments import check_choice
from keras_dtkd.core.boxes import BOX_FORMATS, to_xyxy, validate_boxes

# What pycocotools summarizes first, in its order.
NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")


def coco_ap(
    predictions,
    labels,
    bounding_box_format="yxyx",
    *,
    label_format=None,
    image_size=None,
    scales=None,
    class_names=None,
):
    """COCO's average precision (AP) of detected boxes, computed by pycocotools.

    AP is the area under the curve of precision by recall, averaged over classes that
    have a box and, for `"ap"`, over the IoU thresholds 0.5, 0.55, …, 0.95. Of an image
    the 100 most confident detections count.

    Args:
        predictions: What `predict` of a KerasHub detector returns: `boxes` `(images,
            detections, 4)`, `confidence` and `labels` `(images, detections)`, and, if
            there is one, `num_detections` `(images,)`. Rows of label -1 are padding.
        labels: `{"boxes": (images, max_boxes, 4), "labels": (images, max_boxes)}`. Rows
            of label -1 are padding.
        bounding_box_format: Format of the boxes, as in `keras_dtkd.datasets.bccd`.
        label_format: Format of the boxes of the labels, if it is another one.
        image_size: `(height, width)` of the images, for a format with `"rel_"`.
        scales: Pixels of the images divided by original pixels, `(images, 2)` or
            `(2,)`: height and width. Sizes of boxes (small is below 32² pixels, large
            above 96²) are then original ones. Optional; the other numbers do not
            depend on it.
        class_names: Adds the AP of each class, `"ap/<name>"`. Optional.

    Returns:
        A dict of floats between 0 and 1: `"ap"`, `"ap50"`, `"ap75"` (at an IoU of 0.5
        and 0.75), `"ap_small"`, `"ap_medium"`, `"ap_large"`. A number is -1 if no box
        of the labels belongs to it, as pycocotools has it.

    Raises:
        ValueError: Shapes do not fit, or an argument is unknown or missing.
        ImportError: pycocotools is not installed.

    Reference:
        Lin et al., "Microsoft COCO: Common Objects in Context", arXiv 1405.0312;
        `pycocotools.cocoeval.COCOeval`.

    Example:

    >>> coco_ap(student.predict(x_test), y_test, "yxyx")["ap50"]
    """
    check_choice("coco_ap", "bounding_box_format", bounding_box_format, BOX_FORMATS)
    label_format = label_format or bounding_box_format
    check_choice("coco_ap", "label_format", label_format, BOX_FORMATS)
    for name in (bounding_box_format, label_format):
        if name.startswith("rel_") and image_size is None:
            raise ValueError(
                f"`coco_ap`: boxes in the format {name!r} are relative. Pass "
                "`image_size=(height, width)`."
            )
    COCO, COCOeval = _import_pycocotools()
    boxes, classes = validate_boxes("coco_ap", labels)
    found = validate_predictions("coco_ap", predictions, len(boxes))
    factors = np.ones(2) if scales is None else np.asarray(scales, "float64")
    if factors.shape not in ((2,), (len(boxes), 2)):
        raise ValueError(
            f"`coco_ap`: `scales` must have the shape (2,) or ({len(boxes)}, 2). "
            f"Received: shape {factors.shape}."
        )
    factors = np.broadcast_to(factors, (len(boxes), 2))

    def to_original(values, name):
        corners = to_xyxy(values, name, image_size)
        return corners / factors[:, None, [1, 0, 1, 0]]

    truth = _annotations(to_original(boxes, label_format), classes, classes >= 0)
    found["boxes"] = to_original(found["boxes"], bounding_box_format)
    detections = _annotations(**found)
    names = range(len(class_names)) if class_names is not None else ()
    ids = sorted({item["category_id"] for item in truth} | set(names))
    sides = COCO(), COCO()
    with contextlib.redirect_stdout(io.StringIO()):
        for side, annotations in zip(sides, (truth, detections), strict=True):
            side.dataset = {
                "images": [{"id": i} for i in range(len(boxes))],
                "categories": [{"id": i} for i in ids],
                "annotations": annotations,
            }
            side.createIndex()
        evaluation = COCOeval(*sides, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    result = dict(zip(NAMES, map(float, evaluation.stats), strict=False))
    # Axes: IoU threshold, recall, class, range of areas (all), detections (100).
    precision = evaluation.eval["precision"]
    for label, name in enumerate(class_names or ()):
        of_class = precision[:, :, ids.index(label), 0, -1]
        of_class = of_class[of_class > -1]
        result[f"ap/{name}"] = float(of_class.mean()) if of_class.size else -1.0
    return result


def validate_predictions(caller, predictions, count=None):
    """`boxes`, `labels`, `confidence` and `valid` as NumPy; else a `ValueError`."""
    needed = {"boxes", "labels", "confidence"}
    names = set(predictions) if isinstance(predictions, dict) else set()
    if not needed <= names:
        received = sorted(names) or type(predictions).__name__
        raise ValueError(
            f"`{caller}`: predictions must be a dict of `boxes`, `confidence` and "
            "`labels`, decoded, as `predict` of a KerasHub detector returns. Received: "
            f"{received}."
        )
    boxes, classes = validate_boxes(caller, predictions, count)
    confidence = np.asarray(predictions["confidence"], "float64")
    if confidence.shape != classes.shape:
        raise ValueError(
            f"`{caller}`: `confidence` must have the shape of `labels`, "
            f"{classes.shape}. Received: shape {confidence.shape}."
        )
    valid = classes >= 0
    if predictions.get("num_detections") is not None:
        number = np.asarray(predictions["num_detections"]).reshape(-1, 1)
        valid &= np.arange(classes.shape[1]) < number
    arrays = boxes, classes, valid, confidence
    return dict(zip(("boxes", "labels", "valid", "confidence"), arrays, strict=True))


def _annotations(boxes, labels, valid, confidence=None):
    annotations: list = []
    for image, row in zip(*np.nonzero(valid), strict=True):
        left, top, right, bottom = map(float, boxes[image, row])
        width, height = right - left, bottom - top
        annotation = {
            # pycocotools takes an id of 0 for a box that is not matched.
            "id": len(annotations) + 1,
            "image_id": int(image),
            "category_id": int(labels[image, row]),
            "bbox": [left, top, width, height],
            "area": width * height,
            "iscrowd": 0,
        }
        if confidence is not None:
            annotation["score"] = float(confidence[image, row])
        annotations.append(annotation)
    return annotations


def _import_pycocotools():
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise ImportError(
            "`coco_ap` requires pycocotools, which is not installed: "
            "pip install pycocotools"
        ) from None
    return COCO, COCOeval
