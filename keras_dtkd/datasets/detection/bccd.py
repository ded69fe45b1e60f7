"""BCCD: blood cells."""

import dataclasses
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import keras
import numpy as np

from keras_dtkd.datasets.detection.loading import Loader, Records
from keras_dtkd.datasets.detection.split import DetectionSplit

CLASS_NAMES = ("Platelets", "RBC", "WBC")
COMMIT = "d272fb14cdff6e473fafeeeba32aba5f560e9e43"
ARCHIVE = f"https://github.com/Shenggan/BCCD_Dataset/archive/{COMMIT}.zip"
SPLITS = {"train": "train", "val": "validation", "test": "test"}


@dataclasses.dataclass(frozen=True)
class BCCD:
    """The three parts of BCCD, each a `DetectionSplit`, and the names of its classes.

    Attributes:
        train: 205 images.
        validation: 87 images.
        test: 72 images.
        class_names: `("Platelets", "RBC", "WBC")`.
    """

    train: DetectionSplit
    validation: DetectionSplit
    test: DetectionSplit
    class_names: tuple = CLASS_NAMES


def bccd(
    path=None,
    image_size=None,
    *,
    bounding_box_format="yxyx",
    max_boxes=None,
    dtype="float32",
    pad_to_aspect_ratio=False,
    verbose=1,
):
    """BCCD: 364 microscope images of 480x640x3 with 4,886 blood cells in boxes.

    205 images to train on, 87 for validation and 72 to test. Three classes: platelets
    (361 boxes), red blood cells (4,153) and white blood cells (372). Two boxes without
    an area, in BloodImage_00338 and BloodImage_00343, are left out.

    Args:
        path: The file `bccd.npz`, or a folder that contains the original repository
            (`JPEGImages`, `Annotations`, `ImageSets/Main`). By default the repository
            is downloaded from GitHub, at a fixed commit, into Keras's cache.
        image_size: `(height, width)` to resize to; boxes move with the pixels. By
            default images keep their size.
        bounding_box_format: Format of the boxes: `"yxyx"`, KerasHub's default,
            `"xyxy"`, `"xywh"` or `"center_xywh"` in pixels of the resized images; or
            one of these with `"rel_"` before it, divided by the image's size.
        max_boxes: Rows of boxes for each image. By default the largest number, 30.
        dtype: `"float32"`, pixels between 0 and 1, or `"uint8"`, 0 to 255.
        pad_to_aspect_ratio: Whether an image keeps its shape and black pixels are added
            at the right or the bottom, instead of stretching.
        verbose: 1 shows the progress of decoding.

    Returns:
        An object with `train`, `validation` and `test`, a `DetectionSplit` each, with
        `images`, `labels` and more; and `class_names`.

    Raises:
        ValueError: An argument is out of range; an image has more than `max_boxes`
            boxes; or a file cannot be read.
        ImportError: Pillow is not installed.
        FileNotFoundError: `path` does not exist or contains no such data.

    Reference:
        github.com/Shenggan/BCCD_Dataset, MIT license, (c) 2017 shenggan.

    Example:

    >>> data = bccd("bccd.npz", image_size=(240, 320))
    >>> student.fit(data.train.images, data.train.labels)
    """
    loader = Loader(
        *("bccd", image_size, bounding_box_format, max_boxes, dtype),
        pad_to_aspect_ratio,
    )
    records, splits = _read(path)
    max_boxes = loader.count_rows(records)
    progress = keras.utils.Progbar(len(records), verbose=verbose, unit_name="image")
    loaded = {}
    for name, field in SPLITS.items():
        selected = records.select(np.flatnonzero(np.array(splits) == name))
        loaded[field] = loader.load(selected, CLASS_NAMES, max_boxes, progress)
    return BCCD(**loaded)


def _read(path):
    """`Records`, and the name of each one's split."""
    if path is None:
        # GitHub does not promise that an archive's bytes stay the same: no hash.
        path = keras.utils.get_file(
            f"bccd_{COMMIT[:7]}.zip", ARCHIVE, extract=True, cache_subdir="datasets"
        )
    path = Path(path).expanduser()
    if path.is_file():
        return _read_npz(path)
    folders = sorted(path.rglob("JPEGImages")) if path.is_dir() else []
    if not folders:
        raise FileNotFoundError(
            f"`bccd`: {path} is neither the file bccd.npz nor a folder that contains "
            "JPEGImages, Annotations and ImageSets/Main, as the repository "
            "Shenggan/BCCD_Dataset does. Without a path it is downloaded."
        )
    return _read_voc(folders[0].parent)


def _read_npz(path):
    with np.load(path, allow_pickle=False) as file:
        data = {name: file[name] for name in file.files}
    files = np.split(data["jpeg"], np.cumsum(data["size"])[:-1])
    ends = np.cumsum(data["count"])[:-1]
    records = Records(
        [str(name) for name in data["name"]],
        [file.tobytes() for file in files],
        np.split(data["box"], ends),
        np.split(data["label"], ends),
    )
    return records, [list(SPLITS)[split] for split in data["split"]]


def _read_voc(root):
    members: dict = {}
    for split in SPLITS:
        file = root / "ImageSets" / "Main" / f"{split}.txt"
        if not file.is_file():
            raise FileNotFoundError(f"`bccd`: {file} is missing.")
        members |= dict.fromkeys(file.read_text().split(), split)
    names = sorted(members)
    annotations = [_read_annotation(root / "Annotations" / f"{n}.xml") for n in names]
    records = Records(
        names,
        [root / "JPEGImages" / f"{name}.jpg" for name in names],
        [boxes for boxes, _ in annotations],
        [labels for _, labels in annotations],
    )
    return records, [members[name] for name in names]


def _read_annotation(path):
    """Boxes and labels of a file in the format of Pascal VOC."""
    boxes, labels = [], []
    for item in ElementTree.parse(path).iter("object"):
        sides = ("xmin", "ymin", "xmax", "ymax")
        corners = [item.findtext(f"bndbox/{side}") for side in sides]
        boxes.append([float(corner or "nan") for corner in corners])
        labels.append(CLASS_NAMES.index(str(item.findtext("name")).strip()))
    return boxes, labels
