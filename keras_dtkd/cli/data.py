"""The images of a run, as arrays and as batches, and its networks."""

import hashlib
import tempfile
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_dtkd import datasets, models
from keras_dtkd.core.user_code import is_reference, load_reference
from keras_dtkd.datasets.folder_arrays import IMAGENET
from keras_dtkd.datasets.registry import NORMALIZATION
from keras_dtkd.datasets.tfds import require_tensorflow
from keras_dtkd.models import weights

NAMES = tuple(NORMALIZATION)
FOLDER = "folder:"
# Height and width of the images of a folder, unless the user gives others.
IMAGE_SIZE = 64


def is_known(name):
    """Whether this is the name of a data set, or `folder:PATH`."""
    return name in NAMES or name.startswith(FOLDER)


def get_normalization(name):
    """The constants that images of a data set are normalized by."""
    return IMAGENET if name.startswith(FOLDER) else NORMALIZATION[name]


def compute_folder_digest(name):
    """A digest of the names and sizes of the files in `folder:PATH`, 16 digits."""
    root = Path(name.removeprefix(FOLDER))
    files = sorted(path for path in root.rglob("*") if path.is_file())
    digest = hashlib.blake2b(digest_size=8)
    for path in files:
        text = f"{path.relative_to(root).as_posix()} {path.stat().st_size}\n"
        digest.update(text.encode())
    return digest.hexdigest()


class Images(NamedTuple):
    """`(images, labels)` of each split; `validation` is `None` without one."""

    data: str
    train: Any
    validation: Any
    test: Any
    num_classes: int

    @property
    def shape(self):
        return self.test[0].shape[1:]

    @property
    def evaluation(self):
        """The split on which each epoch is evaluated."""
        return self.test if self.validation is None else self.validation


def load(data, data_dir=None, validation=0.0, train_size=None, image_size=IMAGE_SIZE):
    """Loads a data set as `Images`, uint8. Keeps `train_size` training images.

    Images in a folder are brought to `image_size`, their height and width.
    """
    # Not after a run has begun.
    require_tensorflow("keras-dtkd")
    splits = datasets.load_arrays(
        data, data_dir, validation=validation, image_size=image_size
    )
    # Of all images: the subset that is trained on may lack a class.
    num_classes = 1 + max(int(labels.max()) for _, labels in splits)
    if not data.startswith(FOLDER):
        num_classes = 100 if data == "cifar100" else 10
    x, y = splits[0]
    if train_size is not None:
        if train_size > len(x):
            raise ValueError(
                f"--train-size {train_size}: {data} has {len(x)} training images with "
                f"--validation {validation}."
            )
        # Independent of the seed; a subset of every larger `train_size`.
        indices = np.sort(np.random.RandomState(0).permutation(len(x))[:train_size])
        x, y = x[indices], y[indices]
    held_out = splits[1] if validation else None
    return Images(data, (x, y), held_out, splits[-1], num_classes)


def build_network(name, images):
    """Builds an untrained `channels_last` network for `Images`.

    A name of the user's own, `"my.py:build"`, is called as
    `build(input_shape, num_classes)`. A `ValueError` where it gives no such model.
    """
    if not is_reference(name):
        return models.get(name, images.num_classes, images.shape, "channels_last")
    model = load_reference(name)(images.shape, images.num_classes)
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"{name}: called with input_shape={images.shape}, num_classes="
            f"{images.num_classes}, it must return a `keras.Model`. Returned: "
            f"{type(model).__name__}."
        )
    outputs = model.compute_output_spec(keras.KerasTensor((None, *images.shape)))
    if tuple(getattr(outputs, "shape", ())) != (None, images.num_classes):
        raise ValueError(
            f"{name}: for images {images.shape} and {images.num_classes} classes the "
            f"model gives {outputs}, and not one number for each class."
        )
    return model


def check_loading(network, name):
    """A `ValueError` where a trained `network` could not be loaded from its file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.keras")
        try:
            network.save(path)
            load_network(path)
        except Exception as error:
            raise ValueError(
                f"{name}: its network could not be loaded from the file of the trained "
                f"student. Decorate its class with "
                "`@keras.saving.register_keras_serializable()`, give it a "
                f"`get_config`, and call it once before it is returned. Keras: {error}"
            ) from error


def load_network(path):
    """A network from its file. Without Keras's dump of the whole network in errors."""
    try:
        return keras.saving.load_model(path, compile=False)
    except TypeError as error:
        raise ValueError(str(error).partition(" Full object config")[0]) from error


def load_teacher(path, name, images):
    """Builds a network for `images` and loads its weights, or raises `ValueError`."""
    model = build_network(name, images)
    if path.suffix == ".npz":
        arrays = weights.read_npz("load_torch", path)
        if any(key.startswith("f.") for key in arrays):
            return models.load_sequential_npz(model, arrays)
        return models.load_torch(model, arrays)
    try:
        with warnings.catch_warnings():
            # Keras only warns about layers without weights in the file.
            warnings.simplefilter("error", UserWarning)
            model.load_weights(path)
    except Exception as error:  # noqa: BLE001 - whatever Keras and h5py raise
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"--teacher-weights {path}: these are not the weights of a {name} for "
            f"{images.num_classes} classes and images {images.shape}: {reason}"
        ) from error
    return model


def make_datasets(images, settings, first_epoch):
    """`(all_versions, train, evaluation)`, batches for `fit`.

    `all_versions`, which may be `None`, has all of the fixed augmented versions of the
    training images, in order. With them and a teacher, `train` has sample ids.
    """
    versions = settings["versions"]
    options = {name: settings[name] for name in ("batch_size", "augment", "seed")}
    options |= {"first_epoch": first_epoch, "augmentations_per_image": versions}
    *all_versions, train, evaluation = datasets.from_arrays(
        images.train, images.evaluation, **options, **get_normalization(images.data)
    )
    if versions and settings["teacher"] is None:
        # `map` must not prefetch: keep the options of `train`.
        read_options = train.options()
        train = train.map(lambda x, y: (x["inputs"], y)).with_options(read_options)
    return all_versions[0] if versions else None, train, evaluation


def sequential_batches(images, split):
    """Normalized batches of a split, in order, without augmentation."""
    return datasets.from_arrays(split, split, **get_normalization(images.data))[1]
