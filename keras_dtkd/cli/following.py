"""Callbacks that time a run, keep its best student and tell of its progress."""

import time

import keras

from keras_dtkd import backend
from keras_dtkd.cli import record
from keras_dtkd.cli.circumstances import peak_memory
from keras_dtkd.files import replace


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

    Comes before `Resume`: what is lost when the process dies is written again, by the
    epoch that is done again.

    Args:
        folder: Of the run.
        student: Whose weights are kept.
        history: Validation accuracies of the epochs before.
    """

    def __init__(self, folder, student, history):
        super().__init__()
        self.folder = folder
        self.student = student
        self._best = max(history, default=-1.0)

    def on_epoch_end(self, epoch, logs=None):
        if logs["val_accuracy"] > self._best:
            self._best = logs["val_accuracy"]
            save(self.student, self.folder / record.BEST)


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
            "peak_device_memory_bytes": backend.device()[1],
        }
        record.write(self.folder, self.run)


def save(student, path):
    """A file of the student that loads without this package: without its optimizer."""
    bare = keras.Model(student.input, student.output, name=student.name)
    replace(path, bare.save)
