"""One image and its boxes, as augmentations take and return it."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class DetectionSample:
    """One image and its boxes, without padding.

    Attributes:
        image: `(height, width, channels)`, in the range of the data.
        boxes: `(boxes, 4)`, corners in pixels: x and y of two, float64.
        labels: `(boxes,)`, integers.
        scale: Pixels of `image` divided by original pixels: of height and width.
        columns: Rows of further columns of the data, by name.
    """

    image: Any
    boxes: Any
    labels: Any
    scale: tuple = (1.0, 1.0)
    columns: dict = dataclasses.field(default_factory=dict)
