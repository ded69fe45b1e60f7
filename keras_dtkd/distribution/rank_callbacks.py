"""What differs between the processes of one training run."""

import math

import keras

from keras_dtkd import backend
from keras_dtkd.core import arrays


def rank_zero_callbacks(callbacks, verbose):
    """The arguments of `fit` for this process: rank 0 alone prints and writes.

    A `BackupAndRestore` of other ranks still restores.
    """
    if isinstance(callbacks, keras.callbacks.CallbackList):
        # Keras makes another of them, with the number of epochs that ours needs.
        callbacks = callbacks.callbacks
    callbacks = keras.tree.flatten(callbacks or [])
    if backend.rank_and_world_size()[0] == 0:
        return callbacks, verbose
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
    """A `ValueError` for a batch of arrays that JAX's devices cannot share evenly.

    `kwargs` are the other arguments of `fit`.
    """
    even = backend.batch_divisor()
    if even is None:
        return
    multiple = max(1, even // backend.rank_and_world_size()[1])
    split, validation = kwargs.get("validation_split"), kwargs.get("validation_data")
    steps, validation_steps = map(kwargs.get, ("steps_per_epoch", "validation_steps"))
    num_samples = arrays.num_samples(x) if arrays.is_arrays(x) else 0
    runs = [(num_samples, batch_size, steps)]
    if split and validation is None:
        first = math.floor(num_samples * (1 - split))
        runs = [
            (first, batch_size, steps),
            (num_samples - first, batch_size, validation_steps),
        ]
    elif isinstance(validation, list | tuple) and arrays.is_arrays(validation[0]):
        batch_size = kwargs.get("validation_batch_size") or batch_size
        num_samples = arrays.num_samples(validation[0])
        runs.append((num_samples, batch_size, validation_steps))
    for num_samples, batch_size, steps in runs:
        batch_size = batch_size or (math.ceil(num_samples / steps) if steps else 32)
        sizes = [min(batch_size, num_samples)]
        if steps is None or steps * batch_size > num_samples:
            sizes.append(num_samples % batch_size)
        for size in sizes:
            if size % multiple:
                raise ValueError(
                    f"`Distiller`: {num_samples} samples in batches of {batch_size} "
                    f"leave a batch of {size}, which JAX cannot split over {multiple} "
                    "devices. Make `batch_size` and the number of samples multiples of "
                    f"{multiple}."
                )
