"""What TensorFlow Datasets has prepared, or prepares now."""

import contextlib
import importlib.util
import os
import urllib.error
import urllib.request

import keras
import numpy as np


def open_tfds(name, data_dir, download):
    """A data set of TensorFlow Datasets, made ready if it is not.

    Args:
        name: As TensorFlow Datasets names it.
        data_dir: Its folder, or `None`.
        download: Whether it may be downloaded.

    Returns:
        A function from the name of a split to its images and labels, NumPy.

    Raises:
        ImportError: TensorFlow Datasets, or TensorFlow for TFRecord, is missing.
        FileNotFoundError: The data set is missing.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise ImportError(
            f"`{name}` is read by TensorFlow Datasets, which is not installed: "
            "pip install tensorflow-datasets importlib_resources"
        ) from None
    # TensorFlow Datasets would make a folder named ~.
    data_dir = data_dir and os.path.expanduser(data_dir)
    builder = tfds.builder(name, data_dir=data_dir)
    if not builder.is_prepared():
        _prepare(builder, download)
    if builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
        return lambda split: _from_source(builder.as_data_source(split=split))
    require_tensorflow(name)
    return lambda split: _from_dataset(tfds, builder, split)


def require_tensorflow(who):
    """TensorFlow, which reads and batches here whatever the backend is."""
    try:
        import tensorflow as tf
    except ImportError:
        raise ImportError(
            f"`{who}` needs TensorFlow, whatever the backend: pip install tensorflow. "
            "Without it, `arrays` reads what is prepared as ArrayRecord."
        ) from None
    if keras.config.backend() != "tensorflow":
        # Else it takes all of a GPU's memory from the backend that trains there. The
        # error says that it is in use already: then it has what it wants.
        with contextlib.suppress(RuntimeError):
            tf.config.set_visible_devices([], "GPU")
    return tf


def _prepare(builder, download):
    folder = builder.data_path.parent.parent
    if not download:
        raise _missing(builder.name, folder, "download=False")
    _check_connection(builder, folder)
    # ArrayRecord is what can be read without TensorFlow.
    file_format = "array_record"
    if importlib.util.find_spec("tensorflow"):
        require_tensorflow(builder.name)
        file_format = "tfrecord"
    try:
        builder.download_and_prepare(file_format=file_format)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise _missing(builder.name, folder, reason) from None


def _check_connection(builder, folder):
    """TensorFlow Datasets tries for minutes before it says that it is offline."""
    request = urllib.request.Request(builder.info.homepage, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=10).close()
    except urllib.error.HTTPError:
        pass  # It answers, that is enough.
    except OSError as error:
        reason = f"no connection to {request.host}, {getattr(error, 'reason', error)}"
        raise _missing(builder.name, folder, reason) from None


def _missing(name, folder, reason):
    return FileNotFoundError(
        f"`{name}` is not in {folder} and was not downloaded ({reason}). Either run "
        "this with `download=True` on a machine with a connection, and TensorFlow "
        f"Datasets downloads it; or give `data_dir=`, a folder in which it is prepared "
        f"(one that holds {name}/<version>/)."
    )


def _from_dataset(tfds, builder, split):
    batch = builder.as_dataset(split=split, batch_size=-1, as_supervised=True)
    images, labels = tfds.as_numpy(batch)
    return images, labels.astype("int32")


def _from_source(source):
    labels = np.empty(len(source), "int32")
    images = np.empty((len(source), *source[0]["image"].shape), "uint8")
    for i, example in enumerate(source):
        images[i], labels[i] = example["image"], example["label"]
    return images, labels
