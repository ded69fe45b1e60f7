"""A teacher that ran once, and whose outputs are stored on disk."""

import hashlib
import os
from pathlib import Path

import keras
import numpy as np
from keras import ops

from keras_dtkd.core import arrays
from keras_dtkd.core.issue import ERROR, Issue
from keras_dtkd.core.logits import OutputKind
from keras_dtkd.core.stored_folder import check_file, read_folder
from keras_dtkd.teachers.base import Teacher
from keras_dtkd.teachers.sample_ids import split_sample_ids
from keras_dtkd.teachers.sample_signatures import compute_signatures, find_differing

OUTPUTS_FILE, SIGNATURES_FILE = "outputs.npy", "signatures.npy"


class Stored(Teacher):
    """The outputs of a teacher for each sample, in place of the teacher.

    The outputs are held in memory, on the device that trains: of 50,000 samples and
    100 classes 20 MB as float32. A step costs what the student costs.

    They belong to samples as the teacher saw them. Where the data is augmented, store
    the outputs for some fixed augmentations of each sample (`augmentations_per_image=`
    of `keras_dtkd.datasets`); the batches then carry `sample_ids`. `fit(x, y)` with all
    the samples that were stored needs nothing further. Other data gives
    `with_sample_ids(x, sample_ids)`, or batches of that form.

    Args:
        outputs: A folder written by `store`, or an array `(samples, ..., classes)`.
        output_kind: What the outputs are, a `keras_dtkd.core.logits.OutputKind`.
            `None` for what the folder states, or the values show.

    Attributes:
        num_samples: How many samples there are.
        output_kind: As above, or `None`.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: What lies there is not whole; an array of another form.

    Example:

    >>> stored = teachers.store(teacher, x_train, "teacher_outputs")
    >>> Distiller(stored, student).fit(x_train, y_train, epochs=60)
    """

    needs_sample_ids = True
    variables_name = "stored outputs"

    def __init__(self, outputs, output_kind=None):
        # Of the inputs, see `sample_signatures`; `None` where they are not known.
        self._signatures = None
        if isinstance(outputs, str | os.PathLike):
            outputs, self._signatures, stored_kind = _read(Path(outputs))
            output_kind = stored_kind if output_kind is None else output_kind
        values = np.asarray(arrays.to_numpy(outputs))
        if values.ndim < 2 or values.dtype.kind != "f" or not len(values):
            raise ValueError(
                "`Stored`: outputs are floats `(samples, ..., classes)`. Received: "
                f"shape {values.shape}, {values.dtype}."
            )
        self.num_samples = len(values)
        self.output_kind = None if output_kind is None else OutputKind(output_kind)
        self._values = keras.Variable(
            values, dtype=values.dtype.name, trainable=False, name="stored_outputs"
        )

    @property
    def variables(self):
        return [self._values]

    def outputs(self, x, sample_ids=None):
        """The stored outputs of these samples.

        Without ids a `ValueError`. Those out of range are an error, or give NaN where a
        backend, compiled or on an accelerator, cannot raise one.
        """
        if sample_ids is None:
            raise ValueError(
                "`Stored`: the batch has no `sample_ids`. Give "
                "`keras_dtkd.teachers.with_sample_ids(x, sample_ids)` in place of `x`."
            )
        # A pipeline may have lost their shape.
        ids = ops.reshape(ops.cast(sample_ids, "int32"), (-1,))
        values, indices = self._values.value, ids
        if getattr(values, "is_cuda", False):
            # PyTorch could not use the GPU again after an index out of range.
            indices = ops.clip(ids, 0, self.num_samples - 1)
        outputs = ops.take(values, indices, axis=0)
        # Else an id out of range would give the outputs of another sample, or zeros.
        is_known = ops.logical_and(ids >= 0, ids < self.num_samples)
        is_known = ops.reshape(is_known, (-1, *(1,) * (len(self._values.shape) - 1)))
        return ops.where(is_known, outputs, ops.cast(np.nan, outputs.dtype))

    def issues(self, context):
        """Adds inputs that are not those whose outputs were stored."""
        issues = super().issues(context)
        inputs, ids = split_sample_ids(context.sample.x)
        if issues or self._signatures is None or ids is None:
            return issues
        expected = self._signatures[np.asarray(ids, int).reshape(-1)]
        others = find_differing(compute_signatures(inputs), expected)
        if not others.size:
            return []
        message = (
            f"`Distiller`: {others.size} of {len(expected)} samples that were looked "
            "at are not the inputs whose outputs are stored under their ids, such as "
            f"sample {int(np.asarray(ids).reshape(-1)[others[0]])}."
        )
        hint = (
            "Give the data that was stored, in its order and scale, or `sample_ids` "
            "that give the place of each: `teachers.with_sample_ids`. Images: the "
            "student needs the preprocessor that the teacher had."
        )
        return [Issue("other_samples", ERROR, message, hint)]

    def fingerprint(self):
        values = np.ascontiguousarray(ops.convert_to_numpy(self._values))
        digest = hashlib.blake2b(digest_size=16)
        digest.update(f"{self.output_kind}{values.shape}{values.dtype.name}".encode())
        digest.update(values.tobytes())
        return digest.hexdigest()


def _read(folder):
    """The outputs, signatures of the inputs, and the kind of output."""
    names = "outputs_digest", "signatures_digest", "output_kind", "num_samples"
    metadata = read_folder(folder, names, "keras_dtkd.teachers.store")
    files = OUTPUTS_FILE, SIGNATURES_FILE
    for name, digest in zip(files, names, strict=False):
        check_file(folder / name, metadata[digest])
    outputs, signatures = (np.load(folder / name) for name in files)
    return outputs, signatures, metadata["output_kind"]
