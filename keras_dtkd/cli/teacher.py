"""The trained teacher of a run."""

import warnings

import keras
import numpy as np

from keras_dtkd import models
from keras_dtkd.cli import run_dir
from keras_dtkd.cli.data import build_network
from keras_dtkd.core import atomic_io
from keras_dtkd.models import weights
from keras_dtkd.teachers import store

HOW_TO_GET_WEIGHTS = (
    "Train one with `keras-dtkd train --method ce --student {name} --data {data}` and "
    "give its folder as --teacher-weights; or give a .keras or .weights.h5 file of "
    "that network, or an .npz file of its PyTorch weights."
)
SUFFIXES = (".keras", ".weights.h5", ".npz")


def validate_teacher_options(method, args):
    """Raises `ValueError` unless a teacher and its weights are given."""
    hint = HOW_TO_GET_WEIGHTS.format(name=args.teacher or "resnet32x4", data=args.data)
    if args.teacher is None:
        raise ValueError(f"--method {method} needs a --teacher and its weights. {hint}")
    if args.teacher_weights is None:
        raise ValueError(
            f"--method {method} needs the weights of the teacher {args.teacher}. {hint}"
        )


def resolve_weights(path, name, data):
    """The file of a teacher's weights, given that file or the folder of a run.

    Raises:
        ValueError: A folder of another network or data set, of an unfinished run, or
            without a run; a file of an unknown format.
        FileNotFoundError: No such file.
    """
    if path.is_dir():
        run = run_dir.read_run(path)
        if run is None:
            raise ValueError(f"--teacher-weights {path}: this folder has no run.json.")
        trained = run["settings"]["student"], run["settings"]["data"]
        if trained != (name, data):
            raise ValueError(
                f"--teacher-weights {path}: it holds a {trained[0]} for {trained[1]}, "
                f"but the teacher is a {name} for {data}."
            )
        if run["status"] != "finished":
            raise ValueError(
                f"--teacher-weights {path}: this run is not finished "
                f"({run['status']}). The same `train` command continues it."
            )
        path = path / run_dir.STUDENT_FILE
    if not path.is_file():
        hint = HOW_TO_GET_WEIGHTS.format(name=name, data=data)
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


def precomputed_teacher(model, dataset, folder, verbose):
    """A `Stored` teacher: the first run that needs the outputs computes them."""
    with run_dir.lock(folder, wait=True):
        atomic_io.remove_partial_files(folder)
        return store(model, dataset, folder, verbose=verbose == 1)


def first_version(stored, dataset, num_images):
    """The first version of each training image, and the teacher's outputs for it."""
    batches, num_samples = [], 0
    for x, _ in dataset.as_numpy_iterator():
        batches.append(x)
        num_samples += len(x)
        if num_samples >= num_images:
            break
    outputs = stored.outputs(None, np.arange(num_images))
    return np.concatenate(batches)[:num_images], keras.ops.convert_to_numpy(outputs)
