"""Images in folders, one folder per class."""

import re
from pathlib import Path

import keras
import numpy as np

from keras_dtkd.core.arguments import check_positive_int
from keras_dtkd.datasets.pipeline import ImagePipeline


def image_folder(
    path, batch_size=64, augment=True, seed=None, *, image_size=64, **options
):
    """Reads images from `path/train/<class>/` and `path/val/<class>/`.

    Images may lie in subfolders of a class's folder. All formats are read that
    `keras.utils.image_dataset_from_directory` supports (.bmp, .gif, .jpeg, .jpg,
    .png); other files are ignored. If there is no `val`, `test` is read instead. A
    `val` without class folders needs a `val_annotations.txt`, as Tiny ImageNet has: one
    line per image, with its file name, a tab and its class. All images are held in
    memory as bytes; Tiny ImageNet takes 1.4 GB.

    Args:
        path: The folder.
        batch_size: See `cifar100`.
        augment: See `cifar100`.
        seed: See `cifar100`.
        image_size: Height and width. Images of another size are resized bilinearly.
        **options: See `cifar100`. `mean` and `std` default to ImageNet's.

    Returns:
        The datasets of `cifar100`, with images `(batch, image_size, image_size, 3)`.
        Labels are indices into the sorted class names.

    Raises:
        ValueError: An argument is out of range; or an image has a class that `train`
            lacks, is hidden, or cannot be decoded.
        ImportError: TensorFlow is not installed.
        FileNotFoundError: The folder does not exist or contains no images.

    Example:

    >>> train, test = image_folder("tiny-imagenet-200", seed=0)
    """
    options = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), **options}
    check_positive_int("image_folder", "image_size", image_size)
    pipeline = ImagePipeline("image_folder", batch_size, augment, seed, **options)
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
    return pipeline.build(*(_load_images(s, classes, image_size) for s in splits))


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
