"""Images in folders, one for each class."""

import numbers
from pathlib import Path

import keras
import numpy as np

from keras_dtkd.datasets.pipeline import ImagePipeline

ANNOTATIONS = "val_annotations.txt"


def image_folder(
    path, batch_size=64, augment=True, seed=None, *, image_size=64, **options
):
    """Images from `path/train/<class>/` and `path/val/<class>/`, such as Tiny ImageNet.

    They may lie deeper inside a class's folder, and are of the kinds that
    `keras.utils.image_dataset_from_directory` reads (.bmp, .gif, .jpeg, .jpg, .png);
    other files are passed over. Where there is no `val`, it is `test`.
    A `val` without folders of classes has `val_annotations.txt`, as Tiny ImageNet's: a
    line for each image, its name, a tab and its class. All images are held in memory
    as bytes: those of Tiny ImageNet take 1.4 GB.

    Args:
        path: The folder.
        batch_size: As of `cifar100`, and so the others.
        augment: As above.
        seed: As above.
        image_size: Height and width; images of another size are resized, bilinearly.
        **options: As of `cifar100`; `mean` and `std` are ImageNet's if not given.

    Returns:
        As of `cifar100`, `(batch, image_size, image_size, 3)`. Labels are the positions
        in the sorted names of the classes.

    Raises:
        ValueError: An argument out of range; an image whose class is not among those
            of `train`, that is hidden, or that cannot be decoded.
        ImportError: TensorFlow is not installed.
        FileNotFoundError: No such folder, or no images in it.

    Example:

    >>> train, test = image_folder("tiny-imagenet-200", seed=0)
    """
    options = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), **options}
    if not isinstance(image_size, numbers.Integral) or image_size < 1:
        raise ValueError(
            "`folder`: `image_size` must be one whole number of at least 1, height and "
            f"width. Received: image_size={image_size!r}."
        )
    batches = ImagePipeline("folder", batch_size, augment, seed, **options)
    path = Path(path).expanduser()
    train, test = path / "train", path / "val"
    test = test if test.is_dir() else path / "test"
    for split in (train, test):
        if not split.is_dir():
            raise FileNotFoundError(
                f"`folder`: there is no {split}. Give the `path` of a folder with "
                "images in train/<class>/ and in val/<class>/ (or test/<class>/)."
            )
    classes = {p.name for p in train.iterdir() if p.is_dir() and p.name[0] != "."}
    places = {name: i for i, name in enumerate(sorted(classes))}
    return batches.of(*(_read(split, places, image_size) for split in (train, test)))


def _read(split, places, size):
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
        raise FileNotFoundError(f"`folder`: {error}") from None
    paths = [Path(p) for p in dataset.file_paths]
    labels = _labels(split, paths, places)
    images = np.empty((len(labels), size, size, 3), "uint8")
    decoded = dataset.as_numpy_iterator()
    for i, path in enumerate(paths):
        try:
            images[i] = np.rint(next(decoded))
        except Exception as error:
            reason = str(error).splitlines() or [type(error).__name__]
            raise ValueError(
                f"`folder`: {path} cannot be read or decoded as an image. Mend it, or "
                f"remove it. ({reason[0]})"
            ) from error
    return images, labels


def _labels(split, paths, places):
    annotations = split / ANNOTATIONS
    inside = [path.relative_to(split).parts for path in paths]
    if annotations.is_file():
        named = _annotated(annotations)
        names = [named.get(p.name) for p in paths]
    else:
        names = [parts[0] for parts in inside]
    for path, parts, name in zip(paths, inside, names, strict=True):
        if any(part[0] == "." for part in parts):
            raise ValueError(
                f"`folder`: {path} is hidden. Rename it, or move it elsewhere."
            )
        if name not in places:
            raise ValueError(
                f"`folder`: the class of {path} is {name!r}, which is no folder in "
                f"{split.parent / 'train'}. Mend one of them"
                + (
                    "."
                    if annotations.is_file()
                    else f", or write the classes into {annotations}."
                )
            )
    return np.array([places[name] for name in names], "int32")


def _annotated(path):
    """The classes of images, by their names."""
    named = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        parts = line.split("\t") if "\t" in line else line.split()
        if len(parts) == 1:
            raise ValueError(
                f"`folder`: line {number} of {path} names no class: {line!r}. It is "
                "the name of an image, a tab and its class."
            )
        if parts:
            named[parts[0]] = parts[1]
    return named
