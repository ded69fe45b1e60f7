"""Wrong uses of a data set, found before the first batch."""

import numbers

import numpy as np

FORMATS = ("channels_last", "channels_first")
# The smallest of each whole number, and the rule for it. `None` is one's default.
WHOLE = {
    "batch_size": (1, "must be at least 1"),
    "versions": (1, "must be at least 1"),
    "first_epoch": (0, "counts from 0"),
    "seed": (-(2**63), "lies from -2**63 to 2**63 - 1"),
}
OPTIONAL = ("versions", "seed")


def check_share(who, validation):
    """Refuses a validation share out of range."""
    number = isinstance(validation, numbers.Real)
    if not number or not 0 <= validation < 1:
        raise ValueError(
            f"`{who}`: `validation` is a share of the training images, at least 0 and "
            f"below 1. Received: validation={validation!r}"
        )


def check_arguments(batches):
    """Refuses what no images could fit.

    Args:
        batches: `Batches`.

    Raises:
        ValueError: An argument out of range, with its name.
    """
    check_share(batches.who, batches.validation)
    for name, (smallest, rule) in WHOLE.items():
        value = getattr(batches, name)
        if value is None and name in OPTIONAL:
            continue
        whole = isinstance(value, numbers.Integral)
        if not whole or not smallest <= int(value) < 2**63:
            refuse(batches, f"`{name}` {rule}, in whole numbers", name)
    if batches.first_epoch and batches.seed is None:
        refuse(batches, "`first_epoch` continues a run, which needs its `seed`", "seed")
    if batches.data_format not in FORMATS:
        refuse(batches, f"`data_format` is one of {FORMATS}", "data_format")
    if not np.min(batches.std) > 0:
        refuse(batches, "`std` must be positive", "std")


def check_images(batches, train, test):
    """Refuses images and labels that do not belong together, or to these arguments.

    Args:
        batches: `Batches`.
        train: `(images, labels)`.
        test: The same.

    Returns:
        `(train, test)` as arrays.

    Raises:
        ValueError: With the shapes or the pixels that were found.
    """
    arrays = []
    for name, part in (("train", train), ("test", test)):
        several = isinstance(part, tuple | list)
        if not several or len(part) != 2:
            found = type(part).__name__ + (f" of {len(part)}" if several else "")
            raise ValueError(
                f"`{batches.who}`: `{name}` must be a pair, `(images, labels)`. "
                f"Received: {found}."
            )
        images, labels = map(np.asarray, part)
        _shapes(batches, images.shape, labels.shape)
        _pixels(batches.who, images)
        if labels.dtype.kind not in "buif":
            raise ValueError(
                f"`{batches.who}` wants labels in numbers. Received: {labels.dtype}. "
                "Number the classes from 0."
            )
        arrays.append((images, labels))
    channels = [images.shape[-1] for images, _ in arrays]
    if channels[0] != channels[1]:
        raise ValueError(
            f"`{batches.who}`: images to train have {channels[0]} channels and those "
            f"to test {channels[1]}. Give both the same."
        )
    return arrays


def _shapes(batches, images, labels):
    if len(images) != 4 or images[:1] != labels[:1] or not images[0]:
        raise ValueError(
            f"`{batches.who}` wants images `(images, height, width, channels)` and a "
            f"label for each. Received: images {images}, labels {labels}"
        )
    for name in ("mean", "std"):
        if np.size(getattr(batches, name)) not in (1, images[-1]):
            refuse(batches, f"`{name}` must fit {images[-1]} channels", name)


def _pixels(who, images):
    if images.dtype == "uint8":
        return
    low, high = images.min(), images.max()
    small = images.dtype.kind == "f" and high <= 1
    # NaN is in no range.
    if low >= 0 and high <= 255 and not small:
        return
    way = "Multiply them by 255." if low >= 0 and small else "Give them as they were."
    if images.dtype.kind == "f" and low > -128 and 128 < high < 384:
        way = "Cut off what resizing added: `np.clip(images, 0, 255)`."
    raise ValueError(
        f"`{who}` wants pixels of 0 to 255, divides them by 255 and normalises them. "
        f"Received: {images.dtype} images of at least {low:.3g} and of at most "
        f"{high:.3g}. {way}"
    )


def refuse(batches, rule, name):
    """The error for one argument, with what it was."""
    received = f"{name}={getattr(batches, name)!r}"
    raise ValueError(f"`{batches.who}`: {rule}. Received: {received}")
