"""Asks a teacher once about every sample, and keeps the answers."""

import hashlib
import json
import shutil
from pathlib import Path

import keras
import numpy as np

from keras_dtkd import backend
from keras_dtkd.core import logits
from keras_dtkd.core.arrays import is_arrays, num_samples, take_rows, to_numpy
from keras_dtkd.core.atomic_io import atomic_write, write_json
from keras_dtkd.preparation.data_peek import peek
from keras_dtkd.teachers import base
from keras_dtkd.teachers import sample_ids as numbers
from keras_dtkd.teachers.stored import ABOUT, OUTPUTS, Stored

PARTS, BEGUN = "parts", "begun.json"
# Samples of a file: so much is lost at most when the process dies.
PART = 2048
OTHER = {
    "teacher": "another teacher",
    "samples": "other samples",
    "output": "another output",
    "dtype": "another dtype",
}


def store(
    teacher, x, path, *, batch_size=64, output=None, dtype="float32", verbose="auto"
):
    """Asks a teacher about every sample, once, and keeps what it says in a folder.

    May be interrupted at any moment: the same call goes on. The same call again, when
    all is there, asks nothing.

    Args:
        teacher: As the Distiller's. It stays as it is.
        x: All samples, in the order in which rows count: arrays, or a data set of
            batches of `x`, `(x, y)` or the like. It must not be shuffled. Another time
            it must have batches of the same size.
        path: The folder. Made where there is none.
        batch_size: Samples of arrays that are asked about at once.
        output: Name or index of the output to keep, for a teacher with several.
        dtype: What the answers are kept as, `"float32"` or `"float16"`. The latter
            halves them, and rounds logits near 10 by up to 0.004.
        verbose: 0 for silence, 1 for a bar; `"auto"` is 1.

    Returns:
        A `Stored`.

    Raises:
        ValueError: The folder holds the answers of another teacher, or to other
            samples; data that brings rows, in another order; the output cannot be
            found; float16 has no room for it.

    Example:

    >>> stored = teachers.store(teacher, x_train, "answers", dtype="float16")
    >>> Distiller(stored, student).fit(x_train, y_train)
    """
    teacher, folder = base.resolve_teacher(teacher), Path(path)
    if dtype not in ("float32", "float16"):
        raise ValueError(
            "`store`: `dtype` must be 'float32' or 'float16'. Received: "
            f"dtype={dtype!r}."
        )
    batches, total, first = _batches(x, batch_size)
    _build(teacher, first)
    about = {
        "teacher": teacher.fingerprint(),
        "samples": _digest(x) if is_arrays(x) else _digest(first, total),
        "output": output,
        "dtype": dtype,
    }
    if not _claim(folder, about):
        parts = _Parts(folder / PARTS)
        speak, shown = backend.compiled_teacher_forward(teacher), None
        if verbose:
            shown = keras.utils.Progbar(total, unit_name="batch")
        head, done = _head(teacher, output), 0
        for batch in batches:
            _in_order(batch, done)
            done += num_samples(batch)
            if done > parts.rows:
                said = _said(teacher, speak, batch, output)
                if dtype == "float16":
                    _fits(said, head)
                # Another batch size than before the break may cut across.
                parts.add(said[parts.rows - done :].astype(dtype))
            if shown:
                shown.add(1)
        _finish(folder, parts, {**about, "head": head})
    return Stored(folder)


def _build(teacher, batch):
    for model in base.iter_models(teacher):
        if not model.built:
            model(
                keras.tree.map_structure(lambda a: a[:1], numbers.model_inputs(batch))
            )


def _in_order(batch, first):
    """Rows that the data brings are those under which the answers will be found."""
    rows = numbers.split_sample_ids(batch)[1]
    if rows is None:
        return
    expected = np.arange(first, first + num_samples(rows))
    if not np.array_equal(to_numpy(rows), expected):
        raise ValueError(
            "`store`: the data brings rows, and not from 0 on in their order. Give the "
            "samples unshuffled: of `keras_dtkd.datasets` the data set of all versions."
        )


def _digest(x, batches=None):
    """Tells samples apart: how many there are, and up to 64 of them all over `x`.

    Args:
        x: Arrays, or the first batch of a data set.
        batches: How many batches the data set has, `None` if nobody knows.
    """
    x, count = numbers.model_inputs(x), num_samples(x)
    digest = hashlib.blake2b(f"{count} {batches}".encode(), digest_size=16)
    some = np.linspace(0, count - 1, min(count, 64)).astype(int)
    for leaf in keras.tree.flatten(take_rows(x, some)):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def _claim(folder, about):
    """Whether all is there; an error if it is of something else."""
    for name in (ABOUT, BEGUN):
        if not (folder / name).is_file():
            continue
        found = json.loads((folder / name).read_text(encoding="utf-8"))
        if unlike := [key for key, value in about.items() if found[key] != value]:
            raise ValueError(
                f"`store`: {folder} holds what was stored with "
                f"{' and '.join(OTHER[key] for key in unlike)}. Give another folder, "
                "or remove it."
            )
        return name == ABOUT
    write_json(folder / BEGUN, about)
    return False


def _batches(x, batch_size):
    """Batches of inputs, how many there are, `None` if nobody knows, and the first."""
    if is_arrays(x):
        count = num_samples(x)
        starts = range(0, count, batch_size)
        batches = (take_rows(x, slice(s, min(s + batch_size, count))) for s in starts)
        return batches, len(starts), take_rows(x, slice(0, 1))
    try:
        total = len(x)
    except TypeError:
        total = None
    sample, x = peek(x)
    batches = (keras.utils.unpack_x_y_sample_weight(batch)[0] for batch in x)
    return batches, total, sample.x


def _said(teacher, speak, batch, output):
    batch = keras.tree.map_structure(
        lambda a: keras.ops.convert_to_tensor(to_numpy(a)), numbers.model_inputs(batch)
    )
    names = getattr(getattr(teacher, "model", teacher), "output_names", None)
    said = speak(batch)
    try:
        said = logits.select_output(said, output, names)
    except KeyError as error:
        known = ", ".join(repr(name) for name in error.args[0])
        raise ValueError(
            f"`store`: which output to keep? `output=` may be: {known}. Received: "
            f"output={output!r}."
        ) from None
    return to_numpy(keras.ops.convert_to_numpy(keras.ops.cast(said, "float32")))


def _fits(said, head):
    """float16 has room for the answers."""
    unknown = head is None and logits.look_like_probabilities(said)
    if unknown or head in (logits.SOFTMAX, logits.SIGMOID):
        raise ValueError(
            "`store`: the teacher gives probabilities, and float16 knows none below "
            "6e-8. Use `dtype='float32'`."
        )
    if np.abs(said[np.isfinite(said)]).max(initial=0.0) > np.finfo("float16").max:
        raise ValueError(
            "`store`: the teacher gives logits beyond 65504, the greatest number of "
            "float16. Use `dtype='float32'`."
        )


def _head(teacher, output):
    """What the layers say the outputs are, if they do."""
    stated = getattr(teacher, "head", None)
    if isinstance(stated, str):
        return stated
    model = getattr(teacher, "model", None)
    several = len(getattr(model, "outputs", None) or ()) > 1
    return None if model is None or several else logits.infer_output_kind(model)


def _finish(folder, parts, about):
    values = parts.all()
    atomic_write(folder / OUTPUTS, lambda path: _save(path, values))
    write_json(folder / ABOUT, {**about, "rows": len(values)})
    (folder / BEGUN).unlink()
    shutil.rmtree(folder / PARTS)


def _save(path, values):
    with path.open("wb") as file:
        np.save(file, values)


class _Parts:
    """Answers so far, in files of about `PART` rows; the last rows in memory."""

    def __init__(self, folder):
        self.folder = folder
        self.rows = sum(len(np.load(path)) for path in self._files())
        self._kept = []

    def add(self, values):
        self._kept.append(values)
        self.rows += len(values)
        if sum(map(len, self._kept)) >= PART:
            self._write()

    def all(self):
        if self._kept:
            self._write()
        return np.concatenate([np.load(path) for path in self._files()])

    def _files(self):
        return sorted(self.folder.glob("[0-9]*.npy"))

    def _write(self):
        path = self.folder / f"{len(self._files()):06d}.npy"
        atomic_write(
            path, lambda unfinished: _save(unfinished, np.concatenate(self._kept))
        )
        self._kept = []
