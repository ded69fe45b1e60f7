"""Data sets that TensorFlow Datasets has prepared, or prepares on first use."""

import contextlib
import importlib.util
import os
import urllib.error
import urllib.request

import keras
import numpy as np

SPLITS = ["train", "test"]


def load_tfds(name, data_dir, download):
    """`[(x, y), (x_test, y_test)]`, NumPy. Prepares the data set if necessary."""
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise ImportError(
            f"`{name}` requires TensorFlow Datasets, which is not installed: "
            "pip install tensorflow-datasets importlib_resources"
        ) from None
    # TensorFlow Datasets would create a folder named "~".
    data_dir = data_dir and os.path.expanduser(data_dir)
    builder = tfds.builder(name, data_dir=data_dir)
    if not builder.is_prepared():
        _prepare(builder, download)
    if builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
        return [_read_array_record(builder.as_data_source(split)) for split in SPLITS]
    require_tensorflow(name)
    batches = builder.as_dataset(split=SPLITS, batch_size=-1, as_supervised=True)
    return [(x, y.astype("int32")) for x, y in tfds.as_numpy(batches)]


def require_tensorflow(caller):
    """Imports TensorFlow, which reads and batches the data on every backend."""
    try:
        import tensorflow as tf
    except ImportError:
        raise ImportError(
            f"`{caller}` requires TensorFlow on every backend: pip install tensorflow. "
            "Without it, `load_arrays` reads data that is prepared as ArrayRecord."
        ) from None
    if keras.config.backend() != "tensorflow":
        # Otherwise TensorFlow allocates all memory of a GPU that another backend
        # trains on. The error is raised if TensorFlow already uses the GPU.
        with contextlib.suppress(RuntimeError):
            tf.config.set_visible_devices([], "GPU")


def _prepare(builder, download):
    folder = builder.data_path.parents[1]
    reason = None if download else "download=False"
    # ArrayRecord can be read without TensorFlow.
    file_format = "array_record"
    if importlib.util.find_spec("tensorflow"):
        require_tensorflow(builder.name)
        file_format = "tfrecord"
    try:
        if download:
            # TensorFlow Datasets would retry for minutes without a connection.
            request = urllib.request.Request(builder.info.homepage, method="HEAD")
            with contextlib.suppress(urllib.error.HTTPError):
                urllib.request.urlopen(request, timeout=10).close()
            builder.download_and_prepare(file_format=file_format)
    except urllib.error.URLError as error:
        reason = f"no connection to {request.host}, {error.reason}"
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
    if reason:
        raise FileNotFoundError(
            f"`{builder.name}` is not in {folder} and was not downloaded ({reason}). "
            "Either run this with `download=True` on a machine with a connection, and "
            "TensorFlow Datasets downloads it; or pass `data_dir=`, a folder in which "
            f"it is prepared (one that contains {builder.name}/<version>/)."
        )


def _read_array_record(source):
    labels = np.empty(len(source), "int32")
    images = np.empty((len(source), *source[0]["image"].shape), "uint8")
    for i, example in enumerate(source):
        images[i], labels[i] = example["image"], example["label"]
    return images, labels
