"""Augmentation that depends on the sizes of an image's boxes."""

import dataclasses

import numpy as np

from keras_dtkd.core.arguments import check_in_range, check_positive_int


class SampleSpecificAugmentation:
    """Noise for images of small boxes, a crop for others (SDA).

    A box is small if its area is below `small_area` original pixels. If *all* boxes of
    an image are small, or it has none, Gaussian noise is added to it with probability
    `noise_probability`. Otherwise the image is cropped to between `min_crop` and 1 of
    its height and, independently, of its width, and resized back.

    Boxes move with the pixels and are clipped to the crop; a box of which nothing is
    left is removed. A crop without a box is drawn again, at most `max_attempts` times;
    then the image stays as it is.

    Columns of images, such as adversarial ones, are cropped alike. Noise is added to
    the image alone.

    For `augment=` of `DetectionDataset`, which draws the random numbers of an image
    from the seed, the epoch and the image's index: a resumed run has the same ones.

    Args:
        noise_probability: Probability of noise, from 0 to 1.
        noise_std: Standard deviation of the noise, in units of the range of pixels. The
            default is severity 1 of `gaussian_noise` of the package `imagecorruptions`.
        min_crop: Smallest height and width of a crop, as a fraction of the image's.
        small_area: Area below which a box is small, in original pixels.
        value_range: Lowest and highest pixel, to which noisy pixels are clipped. By
            default (0, 255) for integers and (0, 1) for floats.
        max_attempts: How many crops are drawn until one contains a part of a box.

    Call arguments:
        sample: A `DetectionSample`.
        rng: A `numpy.random.Generator`.

    Returns:
        A `DetectionSample`, with an image of the same shape and dtype.

    Raises:
        ValueError: An argument is out of range, an image has pixels outside of
            `value_range`, or a column is of images of another size.

    Reference:
        Liang et al., "Inconsistent Knowledge Distillation for Object Detection with
        Data Augmentation", arXiv 2209.09841, in the repository JWLiang007/IKD. There a
        crop is MMDetection's `RandomCrop` of type `"relative_range"`, with the same
        rules for boxes; an image whose crop has no box is replaced by another image
        instead of another crop.

    Example:

    >>> augment = SampleSpecificAugmentation()
    >>> train = DetectionDataset(x, y, batch_size=8, augment=augment, scales=scales)
    """

    def __init__(
        self,
        noise_probability=0.3,
        noise_std=0.08,
        min_crop=0.8,
        small_area=32**2,
        value_range=None,
        max_attempts=10,
    ):
        caller = type(self).__name__
        self.noise_probability = check_in_range(
            caller, "noise_probability", noise_probability, 0, 1, inclusive=True
        )
        self.noise_std = check_in_range(caller, "noise_std", noise_std, 0)
        if min_crop != 1:
            check_in_range(caller, "min_crop", min_crop, 0, 1)
        self.min_crop = min_crop
        self.small_area = check_in_range(
            caller, "small_area", small_area, 0, inclusive=True
        )
        if value_range is not None and not value_range[0] < value_range[1]:
            raise ValueError(
                f"`{caller}`: `value_range` must be `(lowest, highest)`. Received: "
                f"value_range={value_range!r}."
            )
        self.value_range = value_range
        self.max_attempts = check_positive_int(caller, "max_attempts", max_attempts)

    def __call__(self, sample, rng):
        self._check_columns(sample)
        low, high = self._find_range(sample.image)
        sides = sample.boxes[:, 2:] - sample.boxes[:, :2]
        areas = sides.prod(-1) / np.prod(sample.scale)
        if (areas < self.small_area).all():
            if rng.uniform() < self.noise_probability:
                image = self._add_noise(sample.image, low, high, rng)
                return dataclasses.replace(sample, image=image)
            return sample
        for _ in range(self.max_attempts):
            top, left, height, width = self._draw_crop(sample.image.shape, rng)
            boxes = sample.boxes - (left, top, left, top)
            boxes = np.clip(boxes, 0, (width, height, width, height))
            kept = (boxes[:, 2:] > boxes[:, :2]).all(-1)
            if kept.any():
                break
        else:
            return sample
        return _crop(sample, (top, left, height, width), boxes[kept], kept)

    def _check_columns(self, sample):
        shape = np.shape(sample.image)
        for name, value in sample.columns.items():
            if np.ndim(value) == 3 and np.shape(value)[:2] != shape[:2]:
                raise ValueError(
                    f"`{type(self).__name__}`: the column {name!r} is of images of "
                    f"{np.shape(value)}, and the images are {shape}: they cannot be "
                    "cropped alike. Give it their height and width."
                )

    def _draw_crop(self, shape, rng):
        full = np.array(shape[:2])
        fractions = self.min_crop + rng.uniform(size=2) * (1 - self.min_crop)
        sides = np.maximum((full * fractions + 0.5).astype(int), 1)
        offsets = rng.integers(0, full - sides + 1)
        return *map(int, offsets), *map(int, sides)

    def _find_range(self, image):
        """Lowest and highest pixel there may be; an error for an image beyond it."""
        default = (0, 255) if image.dtype.kind in "iu" else (0, 1)
        low, high = self.value_range or default
        if image.min() < low or image.max() > high:
            raise ValueError(
                f"`{type(self).__name__}`: an image has pixels between {image.min():g} "
                f"and {image.max():g}, outside of ({low}, {high}). Pass "
                "`value_range=(lowest, highest)` of the images."
            )
        return low, high

    def _add_noise(self, image, low, high, rng):
        noise = rng.normal(0, self.noise_std * (high - low), image.shape)
        noisy = np.clip(image + noise, low, high)
        is_integer = image.dtype.kind in "iu"
        return (np.rint(noisy) if is_integer else noisy).astype(image.dtype)


def _crop(sample, crop, boxes, kept):
    """The sample's crop, resized to the size of its image, with its columns."""
    top, left, height, width = crop
    shape = sample.image.shape
    # Products first: a box that fills its crop then fills the image exactly.
    boxes = boxes * (*shape[1::-1], *shape[1::-1]) / (width, height, width, height)
    factors = shape[0] / height, shape[1] / width

    def cut(image):
        return resize(image[top : top + height, left : left + width], shape[:2])

    columns = {
        name: cut(value) if np.ndim(value) == 3 else value
        for name, value in sample.columns.items()
    }
    return dataclasses.replace(
        sample,
        image=cut(sample.image),
        boxes=boxes,
        labels=sample.labels[kept],
        scale=tuple(s * f for s, f in zip(sample.scale, factors, strict=True)),
        columns=columns,
    )


def resize(image, size):
    """Bilinear, of centers of pixels, `(height, width, channels)` of any dtype."""
    dtype = image.dtype
    image = image.astype("float32")
    for axis, target in enumerate(size):
        length = image.shape[axis]
        if length == target:
            continue
        positions = (np.arange(target) + 0.5) * (length / target) - 0.5
        positions = np.clip(positions, 0, length - 1)
        low = positions.astype(int)
        high = np.minimum(low + 1, length - 1)
        weight = (positions - low).astype("float32")
        weight = weight.reshape([-1 if a == axis else 1 for a in range(image.ndim)])
        first, second = np.take(image, low, axis), np.take(image, high, axis)
        image = first + weight * (second - first)
    return (np.rint(image) if dtype.kind in "iu" else image).astype(dtype)
