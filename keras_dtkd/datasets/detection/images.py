"""Image files, decoded and resized with Pillow."""

import io

import numpy as np

IMAGE_DTYPES = ("float32", "uint8")


class ImageFiles:
    """Images that are decoded when they are indexed: `images[i]` is one of them.

    `np.stack([images[i] for i in range(len(images))])` holds all in memory.

    Args:
        sources: Paths, or the bytes of encoded files.
        names: A name for each, which errors mention.
        image_size: `(height, width)` that images are resized to; `None` keeps theirs.
        dtype: `"float32"`, pixels between 0 and 1; or `"uint8"`, 0 to 255.
        pad_to_aspect_ratio: Whether the shape is kept and black pixels are added, at
            the right or the bottom, instead of stretching.
        sizes: `(height, width)` that each file should have, which its boxes are of; or
            `None`.
    """

    def __init__(
        self, sources, names, image_size, dtype, pad_to_aspect_ratio, sizes=None
    ):
        self.sources, self.names = list(sources), list(names)
        self.image_size, self.dtype = image_size, np.dtype(dtype)
        self.pad_to_aspect_ratio, self.sizes = pad_to_aspect_ratio, sizes

    def __len__(self):
        return len(self.sources)

    def __getitem__(self, index):
        return self.load(index)[0]

    def load(self, index):
        """`(image, original_size)`: `(height, width, 3)`, and `(height, width)`."""
        from PIL import Image

        source = self.sources[index]
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        try:
            with Image.open(file) as opened:
                image = opened.convert("RGB")
        except OSError as error:
            raise ValueError(
                f"{self.names[index]} cannot be read or decoded as an image. Repair or "
                f"remove it. ({error})"
            ) from error
        original_size = image.height, image.width
        if self.sizes is not None and original_size != tuple(self.sizes[index]):
            raise ValueError(
                f"{self.names[index]} has {original_size} pixels (height, width), and "
                f"its annotations are for {tuple(self.sizes[index])}: the boxes would "
                "be elsewhere. Give the images that were annotated; a photograph may "
                "have to be rotated as its EXIF orientation states."
            )
        if self.image_size is not None:
            height, width = self.resized_size(original_size)
            image = image.resize((width, height), Image.Resampling.BILINEAR)
            if (height, width) != tuple(self.image_size):
                canvas = Image.new("RGB", tuple(self.image_size)[::-1])
                canvas.paste(image, (0, 0))
                image = canvas
        pixels = np.array(image)
        if self.dtype != np.uint8:
            pixels = (pixels / np.float32(255)).astype(self.dtype)
        return pixels, original_size

    def resized_size(self, original_size):
        """`(height, width)` of an image after resizing, without what pads it."""
        if self.image_size is None:
            return tuple(original_size)
        if not self.pad_to_aspect_ratio:
            return tuple(self.image_size)
        factor = min(
            target / own
            for target, own in zip(self.image_size, original_size, strict=True)
        )
        return tuple(max(1, round(factor * own)) for own in original_size)

    def scales(self, original_sizes):
        """Resized divided by original pixels, float32 `(images, 2)`: height, width."""
        sizes = [self.resized_size(size) for size in original_sizes]
        return (np.array(sizes) / np.array(original_sizes)).astype("float32")


def require_package(caller, package, module):
    """Imports a module of the extra `detection`, or raises an `ImportError`."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise ImportError(
            f"`{caller}` requires {package}, which is not installed: "
            f"pip install {package.lower()}"
        ) from None
