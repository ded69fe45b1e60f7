"""Images in folders, one folder per class."""

from keras_dtkd.core.arguments import check_positive_int
from keras_dtkd.datasets.folder_arrays import IMAGENET, load_folder
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
    options = {**IMAGENET, **options}
    check_positive_int("image_folder", "image_size", image_size)
    pipeline = ImagePipeline("image_folder", batch_size, augment, seed, **options)
    return pipeline.build(*load_folder(path, image_size))
