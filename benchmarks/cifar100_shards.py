"""CIFAR-100 from shards of lossless WebP images."""

import io

import numpy as np
from PIL import Image

# Of the training images, rounded as in the literature.
MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)


def decode(path, samples=None):
    """Decodes the images of a shard.

    Args:
        path: An `.npz` file of `webp`, the concatenated image files, `size`, the length
            of each in bytes, and `label`.
        samples: Number of images, from the first. `None` for all.

    Returns:
        `(samples, 32, 32, 3)`, uint8, and integer labels `(samples,)`.
    """
    with np.load(path) as shard:
        ends = np.cumsum(shard["size"], dtype="int64")[:samples]
        files, labels = shard["webp"], shard["label"][:samples]
    images = [
        np.asarray(Image.open(io.BytesIO(file.tobytes())).convert("RGB"))
        for file in np.split(files[: ends[-1]], ends[:-1])
    ]
    return np.stack(images), labels


def load(path, samples=None):
    """The same images as float32, normalized, and their labels."""
    images, labels = decode(path, samples)
    x = images.astype("float32") / 255
    return ((x - MEAN) / STD).astype("float32"), labels
