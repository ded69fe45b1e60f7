"""From image files and boxes in original pixels to a `DetectionSplit`."""

import dataclasses
from typing import Any

import numpy as np

from keras_dtkd.core.arguments import (
    check_choice,
    check_positive_int,
    check_positive_ints,
)
from keras_dtkd.core.boxes import BOX_FORMATS, from_xyxy, pad_boxes
from keras_dtkd.datasets.detection.images import (
    IMAGE_DTYPES,
    ImageFiles,
    require_package,
)
from keras_dtkd.datasets.detection.split import DetectionSplit


@dataclasses.dataclass
class Records:
    """Images by name, with corners `(boxes, 4)` in original pixels.

    Boxes without an area are left out: their IoU with any other is 0.
    """

    names: list
    sources: list
    boxes: list
    labels: list
    sizes: Any = None  # `(height, width)` of each, where it is known.

    def __post_init__(self):
        for i, boxes in enumerate(self.boxes):
            boxes = np.asarray(boxes, "float64").reshape(-1, 4)
            has_area = (boxes[:, 2:] > boxes[:, :2]).all(-1)
            self.boxes[i] = boxes[has_area]
            self.labels[i] = np.asarray(self.labels[i], "int32")[has_area]

    def __len__(self):
        return len(self.names)

    def select(self, rows):
        """Some of the images."""
        fields = self.names, self.sources, self.boxes, self.labels, self.sizes
        selected: Any = [f if f is None else [f[i] for i in rows] for f in fields]
        return Records(*selected)


@dataclasses.dataclass(frozen=True)
class Loader:
    """The arguments that the data sets have in common: see `bccd`."""

    caller: str
    image_size: Any
    bounding_box_format: str
    max_boxes: Any
    dtype: str
    pad_to_aspect_ratio: bool

    def __post_init__(self):
        if self.image_size is not None:
            check_positive_ints(self.caller, "image_size", self.image_size, 2)
        if self.max_boxes is not None:
            check_positive_int(self.caller, "max_boxes", self.max_boxes)
        name = self.bounding_box_format
        check_choice(self.caller, "bounding_box_format", name, BOX_FORMATS)
        check_choice(self.caller, "dtype", self.dtype, IMAGE_DTYPES)
        require_package(self.caller, "Pillow", "PIL.Image")

    def count_rows(self, records):
        """Rows of boxes for each image. A `ValueError` if one has more."""
        counts = [len(own) for own in records.boxes]
        largest = max(counts, default=0)
        max_boxes = self.max_boxes or max(largest, 1)
        if largest > max_boxes:
            name = records.names[int(np.argmax(counts))]
            raise ValueError(
                f"`{self.caller}`: {name} has {largest} boxes, and `max_boxes` is "
                f"{max_boxes}. Pass at least {largest}, or None."
            )
        return max_boxes

    def load(self, records, class_names, max_boxes, progress=None):
        """A `DetectionSplit`: of images in memory, or, without `progress`, of files."""
        options = self.image_size, self.dtype, self.pad_to_aspect_ratio
        names, sources = records.names, records.sources
        images: Any = ImageFiles(sources, names, *options, records.sizes)
        files, sizes = images, records.sizes
        if progress is not None:
            images, sizes = _decode_all(files, progress)
        scales, boxes = files.scales(sizes), []
        for own, (y, x), size in zip(records.boxes, scales, sizes, strict=True):
            corners, size = own * (x, y, x, y), self.image_size or size
            boxes.append(from_xyxy(corners, self.bounding_box_format, size))
        return DetectionSplit(
            images,
            pad_boxes(boxes, records.labels, max_boxes),
            scales,
            tuple(records.names),
            tuple(class_names),
            self.bounding_box_format,
        )


def _decode_all(files, progress):
    images: Any = None
    sizes = []
    for i in range(len(files)):
        image, size = files.load(i)
        if images is None:
            images = np.empty((len(files), *image.shape), image.dtype)
        if image.shape != images.shape[1:]:
            raise ValueError(
                f"{files.names[i]} is of shape {image.shape} and the images before it "
                f"of {images.shape[1:]}. Pass `image_size=(height, width)`."
            )
        images[i] = image
        sizes.append(size)
        progress.add(1)
    return images, sizes
