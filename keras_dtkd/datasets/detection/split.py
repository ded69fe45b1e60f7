"""One part of a detection data set, as `fit` takes it."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class DetectionSplit:
    """Images and their boxes: `fit(split.images, split.labels)`.

    Attributes:
        images: `(images, height, width, 3)`; or a sequence that decodes an image when
            it is indexed, for `DetectionDataset`.
        labels: `{"boxes": (images, max_boxes, 4), "labels": (images, max_boxes)}`,
            float32 and int32. Rows without a box are -1, as KerasHub's RetinaNet has
            them.
        scales: Pixels of `images` divided by original pixels, `(images, 2)`: of height
            and of width.
        names: A name or id for each image.
        class_names: The name of each label.
        bounding_box_format: Format of the boxes.
    """

    images: Any
    labels: dict
    scales: Any
    names: tuple
    class_names: tuple
    bounding_box_format: str

    def __len__(self):
        return len(self.names)

    def __repr__(self):
        count = int((self.labels["labels"] >= 0).sum())
        return f"DetectionSplit({len(self)} images, {count} boxes)"
