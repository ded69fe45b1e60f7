"""Validation of arguments and images before the first batch."""

import numbers

import numpy as np

DATA_FORMATS = ("channels_last", "channels_first")
# The minimum of each integer argument, and its rule. `None` selects a default.
MIN_INTEGERS = {
    "batch_size": (1, "must be at least 1"),
    "augmentations_per_image": (1, "must be at least 1"),
    "first_epoch": (0, "counts from 0"),
    "seed": (-(2**63), "must lie between -2**63 and 2**63 - 1"),
}
NULLABLE = ("augmentations_per_image", "seed")


def validate_fraction(caller, validation):
    """Raises a `ValueError` if `validation` is not a number in `[0, 1)`."""
    is_number = isinstance(validation, numbers.Real)
    if not is_number or not 0 <= validation < 1:
        raise ValueError(
            f"`{caller}`: `validation` must be a fraction of the training images, at "
            f"least 0 and below 1. Received: validation={validation!r}"
        )


def validate_arguments(pipeline):
    """Validates the arguments that do not depend on the images.

    Args:
        pipeline: `ImagePipeline`.

    Raises:
        ValueError: An argument is out of range; the message names it.
    """
    validate_fraction(pipeline.caller, pipeline.validation)
    for name, (minimum, rule) in MIN_INTEGERS.items():
        value = getattr(pipeline, name)
        if value is None and name in NULLABLE:
            continue
        is_integer = isinstance(value, numbers.Integral)
        if not is_integer or not minimum <= int(value) < 2**63:
            raise_invalid(pipeline, f"`{name}` {rule} and must be an integer", name)
    if pipeline.first_epoch and pipeline.seed is None:
        raise_invalid(
            pipeline, "`first_epoch` continues a run and requires its `seed`", "seed"
        )
    if pipeline.data_format not in DATA_FORMATS:
        raise_invalid(
            pipeline, f"`data_format` must be one of {DATA_FORMATS}", "data_format"
        )
    if not np.min(pipeline.std) > 0:
        raise_invalid(pipeline, "`std` must be positive", "std")


def validate_images(pipeline, train, test):
    """Validates images and labels against each other and against the arguments.

    Args:
        pipeline: `ImagePipeline`.
        train: `(images, labels)`.
        test: `(images, labels)`.

    Returns:
        `[train, test]` as NumPy arrays.

    Raises:
        ValueError: Shapes, dtypes or pixel values do not fit; the message has them.
    """
    arrays = []
    for name, pair in (("train", train), ("test", test)):
        is_sequence = isinstance(pair, tuple | list)
        if not is_sequence or len(pair) != 2:
            received = type(pair).__name__
            received += f" of length {len(pair)}" if is_sequence else ""
            raise ValueError(
                f"`{pipeline.caller}`: `{name}` must be a pair, `(images, labels)`. "
                f"Received: {received}."
            )
        images, labels = map(np.asarray, pair)
        _validate_shapes(pipeline, images.shape, labels.shape)
        _validate_pixels(pipeline.caller, images)
        if labels.dtype.kind not in "buif":
            raise ValueError(
                f"`{pipeline.caller}`: labels must be numeric. Received: "
                f"{labels.dtype}. Number the classes from 0."
            )
        arrays.append((images, labels))
    channels = [images.shape[-1] for images, _ in arrays]
    if channels[0] != channels[1]:
        raise ValueError(
            f"`{pipeline.caller}`: training images have {channels[0]} channels and "
            f"test images {channels[1]}. Both must have the same number of channels."
        )
    return arrays


def _validate_shapes(pipeline, images, labels):
    if len(images) != 4 or images[:1] != labels[:1] or not images[0]:
        raise ValueError(
            f"`{pipeline.caller}`: images must have the shape `(images, height, width, "
            f"channels)`, with one label each. Received: images {images}, labels "
            f"{labels}"
        )
    for name in ("mean", "std"):
        if np.size(getattr(pipeline, name)) not in (1, images[-1]):
            raise_invalid(pipeline, f"`{name}` must fit {images[-1]} channels", name)


def _validate_pixels(caller, images):
    if images.dtype == "uint8":
        return
    low, high = images.min(), images.max()
    is_float = images.dtype.kind == "f"
    is_scaled = is_float and high <= 1
    # False for NaN.
    if low >= 0 and high <= 255 and not is_scaled:
        return
    hint = "Pass them without normalization."
    if low >= 0 and is_scaled:
        hint = "Multiply them by 255."
    elif is_float and low > -128 and 128 < high < 384:
        hint = "Clip the overshoot of resizing: `np.clip(images, 0, 255)`."
    raise ValueError(
        f"`{caller}`: pixels must lie between 0 and 255; they are divided by 255 and "
        f"normalized here. Received: {images.dtype} images with a minimum of {low:.3g} "
        f"and a maximum of {high:.3g}. {hint}"
    )


def raise_invalid(pipeline, rule, name):
    """Raises a `ValueError` for one argument, with its value."""
    received = f"{name}={getattr(pipeline, name)!r}"
    raise ValueError(f"`{pipeline.caller}`: {rule}. Received: {received}")
