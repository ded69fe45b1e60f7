"""What differs between the processes of one training run."""

import math

import keras

from keras_dtkd import backend
from keras_dtkd.core import arrays


def rank_zero_callbacks(callbacks, verbose):
    """Callbacks and verbosity for this process: rank 0 alone prints and writes.

    Args:
        callbacks: As `fit` got them.
        verbose: As in `fit`.

    Returns:
        `(callbacks, verbose)`. On other ranks without those that write files; a
        `BackupAndRestore` there still restores.
    """
    if isinstance(callbacks, keras.callbacks.CallbackList):
        # Keras makes another of them, with the number of epochs that ours needs.
        callbacks = callbacks.callbacks
    callbacks = callbacks or []
    callbacks = callbacks if isinstance(callbacks, list | tuple) else [callbacks]
    if backend.rank_and_world_size()[0] == 0:
        return list(callbacks), verbose
    writers = [
        keras.callbacks.ModelCheckpoint,
        keras.callbacks.CSVLogger,
        keras.callbacks.TensorBoard,
    ]
    # Under JAX Orbax itself divides the work among processes, and needs them all.
    if backend.backend_name() != "jax" and hasattr(keras.callbacks, "OrbaxCheckpoint"):
        writers.append(keras.callbacks.OrbaxCheckpoint)
    kept = []
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            # Never reached: it reads, and neither writes nor deletes.
            callback = keras.callbacks.BackupAndRestore(
                callback.backup_dir, save_freq=2**62, delete_checkpoint=False
            )
        if not isinstance(callback, tuple(writers)):
            kept.append(callback)
    return kept, 0


def validate_divisible_batches(x, batch_size, kwargs):
    """Every batch of `fit` can be split over the devices, the last one too.

    Args:
        x: As `fit` got it. Only arrays are looked at.
        batch_size: As `fit` got it.
        kwargs: Other arguments of `fit`.

    Raises:
        ValueError: Under JAX, a batch that its devices cannot share evenly.
    """
    even = backend.batch_divisor()
    if even is None:
        return
    multiple = max(1, even // backend.rank_and_world_size()[1])
    split, validation = kwargs.get("validation_split"), kwargs.get("validation_data")
    steps = kwargs.get("steps_per_epoch")
    rows = _rows(x)
    if rows and split and validation is None:
        first = math.floor(rows * (1 - split))
        _validate_divisible(first, batch_size, steps, multiple)
        rows, steps = rows - first, kwargs.get("validation_steps")
    _validate_divisible(rows, batch_size, steps, multiple)
    if isinstance(validation, list | tuple):
        batch_size = kwargs.get("validation_batch_size") or batch_size
        steps = kwargs.get("validation_steps")
        _validate_divisible(_rows(validation[0]), batch_size, steps, multiple)


def _rows(x):
    return arrays.num_samples(x) if arrays.is_arrays(x) else None


def _validate_divisible(rows, batch_size, steps, multiple):
    if rows is None:
        return
    batch_size = batch_size or (math.ceil(rows / steps) if steps else 32)
    sizes = [min(batch_size, rows)]
    if steps is None or steps * batch_size > rows:
        sizes.append(rows % batch_size)
    for size in sizes:
        if size % multiple:
            raise ValueError(
                f"`Distiller`: {rows} rows in batches of {batch_size} leave a batch of "
                f"{size}, which JAX cannot split over {multiple} devices. Make "
                f"`batch_size` and the number of rows multiples of {multiple}."
            )
