"""CIFAR-100 from shards of lossless WebP images."""

import io

import numpy as np
from PIL import Image

# Of the training images, as the literature rounds them.
MEAN, DEVIATION = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)


def images(path, samples=None):
    """Images of a shard, and their labels.

    Args:
        path: An `.npz` file of `webp`, the images' files one after another, `size`,
            the length of each in bytes, and `label`.
        samples: How many of the first; `None` for all.

    Returns:
        `(samples, 32, 32, 3)`, float32, normalised, and integers `(samples,)`.
    """
    with np.load(path) as shard:
        ends = np.cumsum(shard["size"], dtype="int64")[:samples]
        files, labels = shard["webp"], shard["label"][:samples]
    decoded = [
        np.asarray(Image.open(io.BytesIO(file.tobytes())).convert("RGB"))
        for file in np.split(files[: ends[-1]], ends[:-1])
    ]
    x = np.stack(decoded).astype("float32") / 255
    return ((x - MEAN) / DEVIATION).astype("float32"), labels
