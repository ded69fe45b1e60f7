"""Runs a teacher once on every sample, and stores the outputs."""

import hashlib
import itertools
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_dtkd import backend
from keras_dtkd.core import logits
from keras_dtkd.core.arrays import (
    is_arrays,
    is_text,
    num_samples,
    take_rows,
    to_numpy,
    to_numpy_arrays,
    to_tensors,
)
from keras_dtkd.core.atomic_io import atomic_write, compute_file_digest, write_json
from keras_dtkd.core.logits import OutputKind
from keras_dtkd.core.preprocessors import find_conversion
from keras_dtkd.core.stored_folder import PROGRESS_FILE, complete_folder, fill_folder
from keras_dtkd.teachers import base
from keras_dtkd.teachers.forward import compile_teacher
from keras_dtkd.teachers.inputs import read_batch, read_sample, with_inputs
from keras_dtkd.teachers.output_kinds import infer_output_kind, naming_outputs
from keras_dtkd.teachers.sample_ids import model_inputs, split_sample_ids
from keras_dtkd.teachers.sample_signatures import compute_signatures, find_differing
from keras_dtkd.teachers.stored import OUTPUTS_FILE, SIGNATURES_FILE, Stored

CHUNK_DIR = "chunks"
# Samples of a file: so much is lost at most when the process dies.
CHUNK_SIZE = 2048


def store(
    teacher,
    x,
    path,
    *,
    batch_size=64,
    output=None,
    dtype="float32",
    teacher_inputs=None,
    verbose="auto",
):
    """Runs a teacher once on every sample, and stores its outputs in a folder.

    May be interrupted at any moment: the same call resumes. The same call again, when
    all outputs are stored, runs nothing. Where several processes train together
    (`torchrun`), each calls it with the same arguments: the first runs the teacher, the
    others wait and read. The folder must be one that all of them see.

    Args:
        teacher: As the Distiller's. It stays as it is. What its outputs are, logits or
            probabilities, is stored with them: as its layers show it, else the loss
            that it was compiled with, else the outputs of the first batch.
        x: All samples, in the order of their ids: arrays, or a data set of
            batches of `x`, `(x, y)` or the like. It must not be shuffled. Another time
            it must have batches of the same size; once all is stored, the first of them
            and their number are compared alone. Images of a KerasHub teacher are
            converted by its own preprocessor, as in its `predict`; a student with an
            equal one is then given the same `x`.
        path: The folder. Made where there is none.
        batch_size: Samples of arrays that the teacher gets at once.
        output: Name or index of the output to keep, for a teacher with several.
        teacher_inputs: As the Distiller's: `x` is then what the student takes, after
            its preprocessor if it has one.
        dtype: Of the stored outputs, `"float32"` or `"float16"`. The latter
            halves them, and rounds logits near 10 by up to 0.004.
        verbose: 0 for silence, 1 for a bar; `"auto"` is 1.

    Returns:
        A `Stored`.

    Raises:
        ValueError: The folder holds the outputs of another teacher, or for other
            samples, or is damaged; another process is writing into it; text; data with
            sample ids in another order; outputs of several shapes; the output cannot
            be found; float16 cannot hold it; an ensemble with unlike preprocessors.
        OSError: The folder cannot be written into, or the disk is full.

    Example:

    >>> stored = teachers.store(teacher, x_train, "teacher_outputs", dtype="float16")
    >>> Distiller(stored, student).fit(x_train, y_train)
    """
    teacher = base.resolve_teacher(teacher).copy_settings()
    teacher = with_inputs(teacher, teacher_inputs)
    folder = Path(path)
    if dtype not in ("float32", "float16"):
        raise ValueError(
            "`store`: `dtype` must be 'float32' or 'float16'. Received: "
            f"dtype={dtype!r}."
        )
    _refuse_text(x)
    batches, total, first = _batches(x, batch_size)
    _refuse_text(first)
    if not num_samples(first):
        raise ValueError("`store`: `x` holds no samples. Give at least one.")
    rows, digest = _inspect(x) if is_arrays(x) else _inspect(first, total)
    has_own_inputs = teacher.input_source is not None
    models = () if has_own_inputs else teacher.models
    if convert := find_conversion("store", models):
        rows = convert(rows)
    for model in teacher.models:
        if not model.built:
            one = to_tensors(take_rows(rows, slice(1)))
            model(read_batch(teacher, one)[0])
    is_converted = has_own_inputs or convert
    metadata = {
        "teacher": teacher.fingerprint(),
        "samples": digest,
        "teacher_inputs": _describe_inputs(teacher, rows) if is_converted else None,
        "output": output,
        "dtype": dtype,
    }

    def store_missing():
        converted = map(convert, batches) if convert else batches
        _store_missing(folder, teacher, converted, total, metadata, verbose)

    # Under JAX the teacher may be spread over all processes, which run it together.
    is_several = backend.rank_and_world_size()[1] > 1
    waits = is_several and keras.distribution.distribution() is None
    fill_folder(folder, metadata, store_missing, waits)
    return Stored(folder)


def _store_missing(folder, teacher, batches, total, metadata, verbose):
    """Stores what the folder does not hold yet."""
    writer = _ChunkWriter(folder / CHUNK_DIR)
    forward, output_kind = compile_teacher(teacher), None
    output, dtype = metadata["output"], metadata["dtype"]
    progress = keras.utils.Progbar(total, verbose=bool(verbose), unit_name="batch")
    known, done = writer.signatures(), 0
    for batch in batches:
        if not done:
            # Of an ensemble's members too, before it runs.
            tensors = to_tensors(to_numpy_arrays(batch))
            output_kind = infer_output_kind(teacher, tensors, output)
        _validate_id_order(batch, done)
        signatures = compute_signatures(model_inputs(batch))
        before = known[done : done + len(signatures)]
        if find_differing(signatures[: len(before)], before).size:
            raise ValueError(
                f"`store`: {folder} holds the outputs of other samples, from sample "
                f"{done} on. Give the same data in the same order to go on; for "
                "other data another folder, or remove this one."
            )
        done += len(signatures)
        if done > writer.num_samples:
            values = _forward_batch(teacher, forward, batch, output)
            if dtype == "float16":
                _validate_float16_range(values, output_kind)
            if not writer.num_samples:
                # After what may be wrong with the arguments: the folder stays free.
                write_json(folder / PROGRESS_FILE, metadata)
            # Another batch size than before the break may cut across.
            new = slice(writer.num_samples - done, None)
            writer.add(values[new].astype(dtype), signatures[new])
        progress.add(1)
    outputs, signatures = writer.all()
    metadata = {**metadata, "output_kind": output_kind}
    _finalize(folder, outputs, signatures, metadata)


def _refuse_text(x):
    if is_text(x):
        raise ValueError(
            "`store`: `x` is text. Give what the teacher's preprocessor makes of it, "
            "`x=model.preprocessor(texts)`."
        )


def _validate_id_order(batch, first):
    """The data's sample ids must be the indices of the stored outputs."""
    sample_ids = split_sample_ids(batch)[1]
    expected = np.arange(first, first + num_samples(batch))
    if sample_ids is not None and not np.array_equal(to_numpy(sample_ids), expected):
        raise ValueError(
            "`store`: the data has `sample_ids` that do not run from 0 on in order. "
            "Give the samples unshuffled: of `keras_dtkd.datasets` the data set of all "
            "augmentations."
        )


def _inspect(x, batches=None):
    """Up to 64 samples all over; a digest of them, and how many (batches) there are."""
    count = num_samples(x)
    some = np.linspace(0, count - 1, min(count, 64)).astype(int)
    rows = take_rows(x, some)
    digest = hashlib.blake2b(f"{count} {batches}".encode(), digest_size=16)
    for leaf in keras.tree.flatten(model_inputs(rows)):
        if leaf is not None:
            digest.update(np.ascontiguousarray(leaf).tobytes())
    return rows, digest.hexdigest()


def _describe_inputs(teacher, rows):
    """The mean signature of what the models are given, rounded: devices differ."""
    signatures = compute_signatures(read_sample(teacher, rows)[0])
    return [f"{value:.3g}" for value in signatures.mean(axis=0)]


def _batches(x, batch_size):
    """Batches of inputs, how many there are, `None` if unknown, and the first."""
    if is_arrays(x):
        count = num_samples(x)
        starts = range(0, count, batch_size)
        batches = (take_rows(x, slice(s, min(s + batch_size, count))) for s in starts)
        return batches, len(starts), take_rows(x, slice(0, 1))
    try:
        total = len(x)
    except TypeError:
        total = None
    is_dataset = isinstance(x, keras.utils.PyDataset)
    items = map(x.__getitem__, range(x.num_batches)) if is_dataset else iter(x)
    inputs = (keras.utils.unpack_x_y_sample_weight(item)[0] for item in items)
    first: Any = next(inputs, [])
    numpy_first = to_numpy_arrays(first)
    return itertools.chain([first], inputs), total, numpy_first


def _forward_batch(teacher, forward, batch, output):
    outputs = forward(to_tensors(to_numpy_arrays(batch)))
    with naming_outputs(output):
        values = logits.select_output(outputs, output, teacher.output_names)
    return keras.ops.convert_to_numpy(keras.ops.cast(values, "float32"))


def _validate_float16_range(values, output_kind):
    """Raises a `ValueError` for outputs that float16 cannot hold."""
    is_soft = output_kind is None and logits.look_like_probabilities(values)
    largest = np.abs(values[np.isfinite(values)]).max(initial=0.0)
    if is_soft or output_kind in (OutputKind.SOFTMAX, OutputKind.SIGMOID):
        problem = "probabilities, and float16 knows none below 6e-8"
    elif largest > np.finfo("float16").max:
        problem = "logits beyond 65504, the greatest number of float16"
    else:
        return
    raise ValueError(f"`store`: the teacher gives {problem}. Use `dtype='float32'`.")


def _finalize(folder, values, signatures, metadata):
    for name, array in ((OUTPUTS_FILE, values), (SIGNATURES_FILE, signatures)):
        atomic_write(folder / name, lambda path, array=array: np.save(path, array))
    digests = {
        "outputs_digest": compute_file_digest(folder / OUTPUTS_FILE),
        "signatures_digest": compute_file_digest(folder / SIGNATURES_FILE),
    }
    metadata = {**metadata, **digests, "num_samples": len(values)}
    complete_folder(folder, metadata)
    shutil.rmtree(folder / CHUNK_DIR, ignore_errors=True)


class _ChunkWriter:
    """Outputs so far, in files of about `CHUNK_SIZE` samples; the last in memory."""

    def __init__(self, folder):
        self.folder = folder
        # Pairs of outputs and signatures.
        self._chunks = [self._read(path) for path in self._files()]
        self._pending = []
        self.num_samples = sum(len(outputs) for outputs, _ in self._chunks)

    def add(self, outputs, signatures):
        for previous, _ in [*self._chunks[:1], *self._pending[:1]]:
            if previous.shape[1:] != outputs.shape[1:]:
                raise ValueError(
                    f"`store`: from sample {self.num_samples} on the teacher's outputs "
                    f"have the shape {outputs.shape[1:]}, and {previous.shape[1:]} "
                    "before. They are stored in one array: pad all inputs to one "
                    "length."
                )
        self._pending.append((outputs, signatures))
        self.num_samples += len(outputs)
        if sum(len(outputs) for outputs, _ in self._pending) >= CHUNK_SIZE:
            chunk = [
                np.concatenate(parts) for parts in zip(*self._pending, strict=True)
            ]
            self._chunks.append(chunk)
            self._pending = []
            path = self.folder / f"{len(self._files()):06d}.npz"
            atomic_write(path, lambda partial: np.savez(partial, *chunk))

    def all(self):
        """All outputs, and all signatures."""
        pairs = [*self._chunks, *self._pending]
        return [np.concatenate(parts) for parts in zip(*pairs, strict=True)]

    def signatures(self):
        """Those that were stored before."""
        known = [signatures for _, signatures in self._chunks]
        return np.concatenate(known) if known else np.zeros((0, 0), "float32")

    def _files(self):
        return sorted(self.folder.glob("[0-9]*.npz"))

    @staticmethod
    def _read(path):
        try:
            # A checksum in the file tells a byte that was changed.
            with np.load(path) as file:
                return file["arr_0"], file["arr_1"]
        except (ValueError, KeyError, OSError, EOFError, *_DAMAGES) as error:
            raise ValueError(
                f"`store`: {path} is damaged ({error}). Remove {path.parent.parent} to "
                "store everything again."
            ) from error


_DAMAGES = zipfile.BadZipFile, zlib.error
