"""The trained teacher of a run."""

import warnings

import keras
import numpy as np

from keras_dtkd import models
from keras_dtkd.cli import run_dir
from keras_dtkd.cli.data import build_network
from keras_dtkd.models import weights

HOW_TO_GET_WEIGHTS = (
    "Train one with `keras-dtkd train --method ce --student {name} --data {data}` and "
    "give its folder as --teacher-weights; or give a .keras or .weights.h5 file of "
    "that network, or an .npz file of its PyTorch weights."
)
SUFFIXES = (".keras", ".weights.h5", ".npz")


def resolve_weights(args, method, name):
    """The file of the teacher's weights, given by options as a file or a run's folder.

    Raises:
        ValueError: No teacher, one of another network or data set, or a file of an
            unknown format.
        FileNotFoundError: No such file, or an unfinished run.
    """
    path = args.teacher_weights
    hint = HOW_TO_GET_WEIGHTS.format(name=name or "resnet32x4", data=args.data)
    if name is None or path is None:
        missing = f"the weights of the teacher {name}" if name else "a --teacher"
        raise ValueError(f"--method {method} needs {missing}. {hint}")
    if path.is_dir():
        settings = (run_dir.read_run(path) or {"settings": {}})["settings"]
        trained = settings.get("student"), settings.get("data")
        if trained != (name, args.data):
            raise ValueError(
                f"--teacher-weights {path}: it holds a {trained[0]} for {trained[1]}, "
                f"but the teacher is a {name} for {args.data}."
            )
        path = path / run_dir.STUDENT_FILE
    if not path.is_file():
        raise FileNotFoundError(f"--teacher-weights {path}: no such file. {hint}")
    if not path.name.endswith(SUFFIXES):
        raise ValueError(
            f"--teacher-weights {path}: give a {', '.join(SUFFIXES)} file, or the "
            "folder of a run."
        )
    return path


def load_teacher(path, name, images):
    """Builds a network for `images` and loads its weights from a file.

    Raises:
        ValueError: The weights are those of another network.
    """
    model = build_network(name, images)
    if path.suffix == ".npz":
        arrays = weights.read_npz("load_torch", path)
        is_sequential = any(key.startswith("f.") for key in arrays)
        load = models.load_sequential_npz if is_sequential else models.load_torch
        return load(model, arrays)
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


def first_version(stored, dataset, num_images):
    """The first version of each training image, and the teacher's outputs for it."""
    batches = dataset.unbatch().take(num_images).batch(num_images)
    x, _ = next(batches.as_numpy_iterator())
    return x, keras.ops.convert_to_numpy(stored.outputs(None, np.arange(num_images)))
