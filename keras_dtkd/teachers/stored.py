"""A teacher that was asked once, and whose answers lie on the disk."""

import hashlib
import json
import os
from pathlib import Path

import keras
import numpy as np
from keras import ops

# What a folder of stored outputs holds. `ABOUT` is written last.
ABOUT, OUTPUTS = "stored.json", "outputs.npy"


class Stored:
    """What a teacher said of each sample, in place of the teacher.

    The answers are held in memory, on the device that trains: of 50,000 samples and
    100 classes 20 MB as float32. A step costs what the student costs.

    They belong to samples as the teacher saw them. Where the data is augmented, store
    the answers to as many fixed versions of each sample as you want
    (`augmentations_per_image=` of `keras_dtkd.datasets`), and let the batches say which
    they are.

    `fit(x, y)` with all the samples the teacher was asked about needs nothing further.
    Other data gives `with_rows(x, rows)`, or batches of that form.

    Args:
        outputs: A folder written by `store`, or an array `(rows, ..., classes)`.
        head: What the outputs are, one of the heads of `keras_dtkd.core.logits`. `None` for
            what the folder says, or the values tell.

    Attributes:
        rows: How many samples there are.
        head: As above, or `None`.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: What lies there is not whole; an array of another form.

    Example:

    >>> stored = teachers.store(teacher, x_train, "answers")
    >>> Distiller(stored, student).fit(x_train, y_train, epochs=60)
    """

    needs_sample_ids = True

    def __init__(self, outputs, head=None):
        if isinstance(outputs, str | os.PathLike):
            outputs, told = _read(Path(outputs))
            head = told if head is None else head
        values = np.asarray(outputs)
        if values.ndim < 2 or values.dtype.kind != "f" or not len(values):
            raise ValueError(
                "`Stored`: outputs are floats `(rows, ..., classes)`. Received: shape "
                f"{values.shape}, {values.dtype}."
            )
        self.rows = len(values)
        self.head = head
        self._values = keras.Variable(
            values, dtype=values.dtype.name, trainable=False, name="stored_outputs"
        )

    @property
    def variables(self):
        """The one that holds the answers."""
        return [self._values]

    def outputs(self, x, rows=None):
        """The answers to the samples of these rows.

        Rows that are not there are an error, or NaN where a backend, compiled or on an
        accelerator, cannot raise one.

        Raises:
            ValueError: No rows.
        """
        if rows is None:
            raise ValueError(
                "`Stored`: the data does not say which rows its samples are. Let it "
                "give `keras_dtkd.teachers.with_sample_ids(x, rows)` in place of `x`."
            )
        # A pipeline may have lost their shape.
        rows = ops.reshape(ops.cast(rows, "int32"), (-1,))
        said = ops.take(self._values.value, rows, axis=0)
        # Else, of a row too many, the answers to another, or zeros.
        there = ops.logical_and(rows >= 0, rows < self.rows)
        there = ops.reshape(there, (-1, *(1,) * (len(self._values.shape) - 1)))
        return ops.where(there, said, ops.cast(np.nan, said.dtype))

    def fingerprint(self):
        """A digest of the answers."""
        values = np.ascontiguousarray(ops.convert_to_numpy(self._values.value))
        digest = hashlib.blake2b(digest_size=16)
        digest.update(f"{self.head}{values.shape}{values.dtype.name}".encode())
        digest.update(values.tobytes())
        return digest.hexdigest()


def _read(folder):
    """The array, and what its folder says of it."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"`Stored`: there is no folder {folder}. `keras_dtkd.teachers.store` "
            "writes one."
        )
    if not (folder / ABOUT).is_file():
        raise ValueError(
            f"`Stored`: {folder} holds no whole set of stored outputs. Call `store` "
            "with it again: it goes on where it stopped."
        )
    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    return np.load(folder / OUTPUTS), about["head"]
