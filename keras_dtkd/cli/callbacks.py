"""Callbacks that time a run, keep its best student and tell of its progress."""

import time
from pathlib import Path

import keras

from keras_dtkd import backend
from keras_dtkd.cli import run_dir
from keras_dtkd.cli.environment import peak_memory
from keras_dtkd.cli.errors import UserError
from keras_dtkd.core.atomic_io import atomic_write, fsync


class Clock(keras.callbacks.Callback):
    """Adds `seconds` to the logs of an epoch, and `step_seconds` without validation.

    The first epoch of a process compiles, so its steps are not a number.

    Args:
        steps: Of an epoch.
    """

    def __init__(self, steps):
        super().__init__()
        self.steps = steps
        self._warm = False
        self._began = self._trained = 0.0

    # No hook on batches: each step would wait for the device.
    def on_epoch_begin(self, epoch, logs=None):
        self._began = time.perf_counter()

    def on_test_begin(self, logs=None):
        # The last steps may still be under way.
        keras.ops.convert_to_numpy(self.model.trainable_variables[0].value)
        self._trained = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        step = (self._trained - self._began) / self.steps
        logs["seconds"] = time.perf_counter() - self._began
        logs["step_seconds"] = step if self._warm else float("nan")
        self._warm = True


class Best(keras.callbacks.Callback):
    """Keeps the student of the epoch with the best validation accuracy.

    Comes before `Resume`. Each has its epoch in its name, and the one before is kept
    until the state holds that epoch: one that is done again, perhaps to other bits,
    takes no other's place.

    Args:
        folder: Of the run.
        student: Whose weights are kept.
        history: Validation accuracies of the epochs before.

    Raises:
        Refused: The best student of these epochs is not there.
    """

    def __init__(self, folder, student, history):
        super().__init__()
        self.folder = folder
        self.student = student
        self._history = list(history)
        self._keep()
        if history:
            path = best_file(folder, best_epoch(history))
            if not path.exists():
                raise UserError(
                    f"{path}, the best student so far, is not there. Remove {folder} "
                    "to begin anew."
                )

    def on_epoch_end(self, epoch, logs=None):
        self._keep()
        self._history.append(logs["val_accuracy"])
        if best_epoch(self._history) == epoch + 1:
            save(self.student, best_file(self.folder, epoch + 1))

    def _keep(self):
        """Only the best of the epochs that the state holds."""
        done = self._history
        forget(self.folder, best_epoch(done) if done else None)


def best_epoch(accuracies):
    """The first of the best ones, counted from 1."""
    return accuracies.index(max(accuracies)) + 1


def best_file(folder, epoch):
    """Where the student of an epoch is kept until the run is finished."""
    return folder / f"best-{epoch}.keras"


def forget(folder, epoch=None):
    """Removes such students, but that of one epoch."""
    for path in folder.glob("best-*.keras"):
        if path != best_file(folder, epoch):
            path.unlink()


class Log(keras.callbacks.CSVLogger):
    """log.csv, each row of it on the disk before the state that counts its epoch."""

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        fsync(Path(self.filename))


class Progress(keras.callbacks.Callback):
    """Writes after each epoch how far the run is, and what it took.

    Args:
        folder: Of the run.
        run: What run.json says. Its last session is this process.
    """

    def __init__(self, folder, run):
        super().__init__()
        self.folder = folder
        self.run = run
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.run["epochs_done"] = epoch + 1
        self.write()

    def write(self):
        """Writes run.json."""
        self.run["sessions"][-1] |= {
            "wall_seconds": time.perf_counter() - self._began,
            "peak_memory_bytes": peak_memory(),
            "peak_device_memory_bytes": backend.device_info()[1],
        }
        run_dir.write(self.folder, self.run)


def save(student, path):
    """A file of the student that loads without this package: without its optimizer."""
    bare = keras.Model(student.input, student.output, name=student.name)
    atomic_write(path, bare.save)
