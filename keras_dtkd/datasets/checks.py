"""Validation of images and labels before the first batch."""

import numpy as np


def validate_images(pipeline, name, pair):
    """The pair named `name` as NumPy arrays; a `ValueError` if they do not fit."""
    is_sequence = isinstance(pair, tuple | list)
    if not is_sequence or len(pair) != 2:
        received = type(pair).__name__
        received += f" of length {len(pair)}" if is_sequence else ""
        raise ValueError(
            f"`{pipeline.caller}`: `{name}` must be a pair, `(images, labels)`. "
            f"Received: {received}."
        )
    images, labels = map(np.asarray, pair)
    if images.ndim != 4 or images.shape[:1] != labels.shape[:1] or not images.size:
        raise ValueError(
            f"`{pipeline.caller}`: images must have the shape `(images, height, width, "
            f"channels)`, with one label each. Received: images {images.shape}, labels "
            f"{labels.shape}"
        )
    for argument in ("mean", "std"):
        value = getattr(pipeline, argument)
        if np.size(value) not in (1, images.shape[-1]):
            raise ValueError(
                f"`{pipeline.caller}`: `{argument}` must fit {images.shape[-1]} "
                f"channels. Received: {argument}={value!r}"
            )
    if labels.dtype.kind not in "buif":
        raise ValueError(
            f"`{pipeline.caller}`: labels must be numeric. Received: {labels.dtype}. "
            "Number the classes from 0."
        )
    low, high, is_float = images.min(), images.max(), images.dtype.kind == "f"
    is_scaled = is_float and high <= 1
    # False for NaN.
    if low >= 0 and high <= 255 and not is_scaled:
        return images, labels
    hint = "Pass them without normalization."
    if low >= 0 and is_scaled:
        hint = "Multiply them by 255."
    elif is_float and low > -128 and 128 < high < 384:
        hint = "Clip the overshoot of resizing: `np.clip(images, 0, 255)`."
    raise ValueError(
        f"`{pipeline.caller}`: pixels must lie between 0 and 255; they are divided by "
        f"255 and normalized here. Received: {images.dtype} images with a minimum of "
        f"{low:.3g} and a maximum of {high:.3g}. {hint}"
    )
