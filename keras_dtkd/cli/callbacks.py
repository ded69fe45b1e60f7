"""Callbacks that time a run, save its best student, and record its progress."""

import functools
import time

import keras

from keras_dtkd import backend
from keras_dtkd.cli.environment import peak_memory
from keras_dtkd.cli.errors import UserError
from keras_dtkd.cli.run_dir import LOG_FILE, RUN_FILE
from keras_dtkd.core.atomic_io import atomic_write, fsync, write_json


class EpochTimer(keras.callbacks.Callback):
    """Adds `seconds` and `step_seconds`, without validation, to an epoch's logs.

    `step_seconds` is NaN in the first epoch of a process, which compiles.
    """

    def __init__(self, steps_per_epoch):
        super().__init__()
        self.steps_per_epoch = steps_per_epoch
        self._is_compiled = False
        self._epoch_start = self._training_end = 0.0

    # No hook on batches: every step would wait for the device.
    def on_epoch_begin(self, epoch, logs=None):
        self._epoch_start = time.perf_counter()

    def on_test_begin(self, logs=None):
        # Waits for training steps that the device has not finished.
        keras.ops.convert_to_numpy(self.model.trainable_variables[0])
        self._training_end = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        step_seconds = (self._training_end - self._epoch_start) / self.steps_per_epoch
        logs["seconds"] = time.perf_counter() - self._epoch_start
        logs["step_seconds"] = step_seconds if self._is_compiled else float("nan")
        self._is_compiled = True


class BestStudent(keras.callbacks.Callback):
    """Saves the student of the epoch with the best validation accuracy.

    Must come before `Resume`. Each file has its epoch in its name, and the previous
    best is kept until the state includes the new epoch: an epoch that is repeated after
    a kill, possibly with other bits, never replaces the file of another epoch.
    `history` has the validation accuracies of the completed epochs.
    """

    def __init__(self, folder, student, history):
        super().__init__()
        self.folder, self.student, self._history = folder, student, list(history)
        remove_checkpoints(folder, history)
        best = checkpoint_path(folder, best_epoch(history)) if history else None
        if best and not best.exists():
            raise UserError(
                f"{best}, the best student so far, is missing. Remove {folder} to "
                "start again."
            )

    def on_epoch_end(self, epoch, logs=None):
        remove_checkpoints(self.folder, self._history)
        self._history.append(logs["val_accuracy"])
        if best_epoch(self._history) == epoch + 1:
            save_student(self.student, checkpoint_path(self.folder, epoch + 1))


def best_epoch(accuracies):
    """The first epoch with the highest accuracy, counted from 1."""
    return accuracies.index(max(accuracies)) + 1


def checkpoint_path(folder, epoch):
    """The file of an epoch's student until the run is finished."""
    return folder / f"best-{epoch}.keras"


def remove_checkpoints(folder, history=()):
    """Removes the students of all epochs but the best that the state includes."""
    best = checkpoint_path(folder, best_epoch(history)) if history else None
    for path in folder.glob("best-*.keras"):
        if path != best:
            path.unlink()


class RunProgress(keras.callbacks.Callback):
    """Writes run.json after each epoch. The last session of `run` is this process.

    Must come between `CSVLogger` and `Resume`: a row of the log is on the disk before
    the state of its epoch.
    """

    def __init__(self, folder, run):
        super().__init__()
        self.folder, self.run = folder, run
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        fsync(self.folder / LOG_FILE)
        self.run["epochs_done"] = epoch + 1
        self.write()

    def write(self):
        self.run["sessions"][-1] |= {
            "wall_seconds": time.perf_counter() - self._start,
            "peak_memory_bytes": peak_memory(),
            "peak_device_memory_bytes": backend.device_info()[1],
        }
        write_json(self.folder / RUN_FILE, self.run)


def save_student(student, path):
    """Saves a student without its optimizer; the file loads without this package.

    One of a class of the user's own loads with that class.
    """
    bare = student
    if isinstance(student, keras.Sequential):
        (inputs,), (outputs,) = student.inputs, student.outputs
        bare = keras.Model(inputs, outputs, name=student.name)
    elif getattr(student, "outputs", None):
        bare = keras.Model(student.input, student.output, name=student.name)
    atomic_write(path, functools.partial(bare.save, include_optimizer=False))
