"""Folders of images with annotations in COCO's format."""

import contextlib
import io
from pathlib import Path

import keras
import numpy as np

from keras_dtkd.datasets.detection.images import require_package
from keras_dtkd.datasets.detection.loading import Loader, Records


def coco(
    images_dir,
    annotations,
    image_size,
    *,
    bounding_box_format="yxyx",
    max_boxes=None,
    dtype="float32",
    pad_to_aspect_ratio=False,
    in_memory=False,
    verbose=1,
):
    """Reads images and boxes in COCO's format, as the COCO data set itself has them.

    Labels are numbered from 0 in the order of the category ids, which may have gaps.
    Annotations of crowds and boxes without an area within their image are left out.
    (COCO's own evaluation instead ignores detections in crowds, so that its average
    precision is slightly higher.) Images without a box are kept.

    Args:
        images_dir: Folder of the images.
        annotations: The JSON file: `images`, `categories`, and `annotations` with a
            `bbox` each.
        image_size: `(height, width)` to resize to; boxes move with the pixels.
        bounding_box_format: See `bccd`.
        max_boxes: Rows of boxes for each image. By default the largest number.
        dtype: See `bccd`.
        pad_to_aspect_ratio: See `bccd`.
        in_memory: Whether all images are decoded now. By default an image is decoded
            when its batch is due, and `images` is for `DetectionDataset`.
        verbose: 1 shows the progress of decoding, with `in_memory`.

    Returns:
        A `DetectionSplit`: `images`, `labels`, `scales`, `names` (of files),
        `class_names`.

    Raises:
        ValueError: An argument is out of range; an image has more than `max_boxes`
            boxes; a file cannot be read; or an annotation has an unknown category.
        ImportError: pycocotools or Pillow is not installed.
        FileNotFoundError: The annotations or an image do not exist.

    Reference:
        cocodataset.org/#format-data; Lin et al., "Microsoft COCO: Common Objects in
        Context", arXiv 1405.0312.

    Example:

    >>> split = coco("train2017", "annotations/instances_train2017.json", (512, 512))
    >>> train = DetectionDataset(split.images, split.labels, scales=split.scales)
    >>> distiller.fit(train, epochs=24, shuffle=False)
    """
    loader = Loader(
        *("coco", image_size, bounding_box_format, max_boxes, dtype),
        pad_to_aspect_ratio,
    )
    if image_size is None:
        raise ValueError("`coco`: pass `image_size=(height, width)`.")
    records, class_names = _read(Path(images_dir), Path(annotations))
    rows, progress = loader.count_rows(records), None
    if in_memory:
        progress = keras.utils.Progbar(len(records), verbose=verbose, unit_name="image")
    return loader.load(records, class_names, rows, progress)


def _read(images_dir, annotations):
    """`Records`, in the order of the image ids, and the names of the labels."""
    module = require_package("coco", "pycocotools", "pycocotools.coco")
    if not annotations.expanduser().is_file():
        raise FileNotFoundError(f"`coco`: {annotations} does not exist.")
    with contextlib.redirect_stdout(io.StringIO()):
        index = module.COCO(str(annotations.expanduser()))
    class_ids = sorted(index.cats)
    names, sources, sizes, boxes, labels = [], [], [], [], []
    for image_id in sorted(index.imgs):
        image = index.imgs[image_id]
        path = images_dir.expanduser() / image["file_name"]
        items = [a for a in index.imgToAnns[image_id] if not a.get("iscrowd")]
        unknown = {item["category_id"] for item in items} - set(class_ids)
        if unknown:
            raise ValueError(
                f"`coco`: {image['file_name']} has annotations of categories "
                f"{sorted(unknown)}, which are not among the file's `categories`."
            )
        size = image["height"], image["width"]
        corners = np.array([item["bbox"] for item in items], "float64").reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        names.append(image["file_name"])
        sources.append(path)
        sizes.append(size)
        boxes.append(np.clip(corners, 0, (size[1], size[0]) * 2))
        labels.append([class_ids.index(item["category_id"]) for item in items])
    if not names:
        raise ValueError(f"`coco`: {annotations} lists no images.")
    missing = [path for path in sources if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"`coco`: {len(missing)} of {len(sources)} images do not exist, such as "
            f"{missing[0]}. `images_dir` must be the folder that their `file_name` "
            "begins in."
        )
    class_names = [index.cats[class_id]["name"] for class_id in class_ids]
    return Records(names, sources, boxes, labels, sizes), class_names
