"""Images in folders, read into arrays."""

import re
from pathlib import Path

import keras
import numpy as np

# Mean and standard deviation of ImageNet's pixels, scaled to [0, 1].
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def load_folder(path, image_size):
    """`(x_train, y_train), (x_test, y_test)` of `image_folder`'s images, uint8."""
    path = Path(path).expanduser()
    splits = [path / "train", path / ("val" if (path / "val").is_dir() else "test")]
    for split in splits:
        if not split.is_dir():
            raise FileNotFoundError(
                f"`image_folder`: {split} does not exist. `path` must contain images "
                "in train/<class>/ and in val/<class>/ (or test/<class>/)."
            )
    classes = sorted(
        p.name for p in splits[0].iterdir() if p.is_dir() and p.name[0] != "."
    )
    return tuple(_load_images(split, classes, image_size) for split in splits)


def _load_images(split, classes, size):
    try:
        dataset = keras.utils.image_dataset_from_directory(
            split,
            labels=None,
            image_size=(size, size),
            batch_size=None,
            shuffle=False,
            data_format="channels_last",
            verbose=False,
        )
    except ValueError as error:
        raise FileNotFoundError(f"`image_folder`: {error}") from None
    paths = [Path(p) for p in dataset.file_paths]
    labels = _infer_labels(split, paths, classes)
    images = np.empty((len(labels), size, size, 3), "uint8")
    decoded = dataset.as_numpy_iterator()
    for i, path in enumerate(paths):
        try:
            images[i] = np.rint(next(decoded))
        except Exception as error:
            reason = str(error).splitlines() or [type(error).__name__]
            raise ValueError(
                f"`image_folder`: {path} cannot be read or decoded as an image. Repair "
                f"or remove it. ({reason[0]})"
            ) from error
    return images, labels


def _infer_labels(split, paths, classes):
    annotations = split / "val_annotations.txt"
    has_annotations = annotations.is_file()
    lines = annotations.read_text().splitlines() if has_annotations else []
    fields = [re.split(r"\t+" if "\t" in line else r"\s+", line) for line in lines]
    classes_by_file = {name: rest[0] for name, *rest in fields if rest}
    class_indices = {name: i for i, name in enumerate(classes)}
    labels = []
    for path in paths:
        folders = path.relative_to(split).parts
        if any(folder[0] == "." for folder in folders):
            raise ValueError(
                f"`image_folder`: {path} is hidden. Rename it or move it elsewhere."
            )
        name = classes_by_file.get(path.name) if has_annotations else folders[0]
        if name not in class_indices:
            hint = f", or write the classes into {annotations}"
            raise ValueError(
                f"`image_folder`: {path} has the class {name!r}, which has no folder "
                f"in {split.parent / 'train'}. Correct one of them"
                f"{'' if has_annotations else hint}."
            )
        labels.append(class_indices[name])
    return np.array(labels, "int32")
