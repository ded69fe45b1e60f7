"""What differs between the ranks of one training run."""

import keras

from keras_dtkd import backend


def of_this_rank(callbacks, verbose):
    """Callbacks and verbosity for this process: rank 0 alone prints and writes.

    Args:
        callbacks: The user's.
        verbose: As in `fit`.

    Returns:
        `(callbacks, verbose)`. On other ranks without those that write files; a
        `BackupAndRestore` there still restores.
    """
    if backend.processes()[0] == 0:
        return list(callbacks), verbose
    writers = (
        keras.callbacks.ModelCheckpoint,
        keras.callbacks.CSVLogger,
        keras.callbacks.TensorBoard,
    )
    kept = []
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            # Never reached: it reads, and neither writes nor deletes.
            callback = keras.callbacks.BackupAndRestore(
                callback.backup_dir, save_freq=2**62, delete_checkpoint=False
            )
        if not isinstance(callback, writers):
            kept.append(callback)
    return kept, 0
