"""The trained teacher of a run."""

import warnings

import keras
import numpy as np

from keras_dtkd import models
from keras_dtkd.cli import run_dir
from keras_dtkd.cli.data import network
from keras_dtkd.core import atomic_io
from keras_dtkd.models import weights
from keras_dtkd.teachers import store

WAYS = (
    "Train one with `keras-dtkd train --method ce --student {name} --data {data}` and "
    "give its folder as --teacher-weights; or give a .keras or .weights.h5 file of "
    "that network, or an .npz file of its PyTorch weights."
)
SUFFIXES = (".keras", ".weights.h5", ".npz")


def check_given(method, args):
    """Refuses a method that needs a teacher without one.

    Raises:
        ValueError: There is none, with the ways to one.
    """
    ways = WAYS.format(name=args.teacher or "resnet32x4", data=args.data)
    if args.teacher is None:
        raise ValueError(f"--method {method} needs a --teacher and its weights. {ways}")
    if args.teacher_weights is None:
        raise ValueError(
            f"--method {method} needs the weights of the teacher {args.teacher}. {ways}"
        )


def find(path, name, data):
    """The file with the weights.

    Args:
        path: That file, or the folder of a run.
        name: Network of the teacher.
        data: Name of the data set.

    Returns:
        The file.

    Raises:
        ValueError: A folder of another network or data set, or of a run that is not
            finished; a file that nobody here reads.
        FileNotFoundError: There is nothing.
    """
    if path.is_dir():
        run = run_dir.read(path)
        if run is None:
            raise ValueError(f"--teacher-weights {path}: no run.json lies there.")
        settings, wanted = run["settings"], {"student": name, "data": data}
        found = {key: settings[key] for key in wanted}
        if found != wanted:
            raise ValueError(
                f"--teacher-weights {path}: it holds a {found['student']} for "
                f"{found['data']}, and the teacher is to be a {name} for {data}."
            )
        if run["status"] != "finished":
            raise ValueError(
                f"--teacher-weights {path}: this run is not finished "
                f"({run['status']}). The same `train` command goes on with it."
            )
        path = path / run_dir.STUDENT
    if not path.is_file():
        ways = WAYS.format(name=name, data=data)
        raise FileNotFoundError(f"--teacher-weights {path}: no such file. {ways}")
    if not path.name.endswith(SUFFIXES):
        raise ValueError(
            f"--teacher-weights {path}: reads {', '.join(SUFFIXES)}, or the folder of "
            "a run."
        )
    return path


def load(path, name, images):
    """The network with these weights.

    Args:
        path: From `find`.
        name: Network of the teacher.
        images: `Images` that it is for.

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: The weights are those of another network.
    """
    model = network(name, images)
    if path.suffix == ".npz":
        arrays = weights.read_npz("load_torch", path)
        flat = any(key.startswith("f.") for key in arrays)
        return (models.load_sequential_npz if flat else models.load_torch)(
            model, arrays
        )
    try:
        with warnings.catch_warnings():
            # Keras warns of layers that it leaves as they were.
            warnings.simplefilter("error", UserWarning)
            model.load_weights(path)
    except Exception as error:  # noqa: BLE001 - whatever Keras and h5py say of it
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"--teacher-weights {path}: these are not the weights of a {name} for "
            f"{images.classes} classes and images {images.shape}: {reason}"
        ) from error
    return model


def answers(model, every, folder, verbose):
    """A stored teacher: asked by the first run that needs it, one at a time.

    Args:
        model: From `load`.
        every: Batches of all that it is to be asked about.
        folder: Where the answers are, or will be.
        verbose: 1 for a bar.

    Returns:
        A `keras_dtkd.teachers.Stored`.
    """
    with run_dir.alone(folder, wait=True):
        atomic_io.remove_partial_files(folder)
        return store(model, every, folder, verbose=verbose == 1)


def first_version(stored, every, count):
    """The first version of each training image, and what the teacher said of it."""
    batches, rows = [], 0
    for x, _ in every.as_numpy_iterator():
        batches.append(x)
        rows += len(x)
        if rows >= count:
            break
    said = stored.outputs(None, np.arange(count))
    return np.concatenate(batches)[:count], keras.ops.convert_to_numpy(said)
