"""Resuming a run that was killed."""

import json
import re
from pathlib import Path

import h5py  # Keras brings it: its own files are of that kind.
import keras
from keras import ops

from keras_dtkd import backend
from keras_dtkd.callbacks import callback_states
from keras_dtkd.callbacks.run_settings import collect_settings, describe_differences
from keras_dtkd.core.atomic_io import atomic_write, remove_partial_files
from keras_dtkd.core.issue import describe_error
from keras_dtkd.core.layer_tree import iter_layers

GENERATOR, LORA, SETTINGS = "generator", "lora", "settings"


class Resume(keras.callbacks.Callback):
    """Keeps the state of the last whole epoch: a run killed at any moment goes on.

    The file appears under its name when it is whole and on the disk, and the name says
    how many epochs it holds. (`keras.callbacks.BackupAndRestore` writes weights and
    epoch one after the other.) It holds what `save_weights` does: of a Distiller the
    student, the optimizer, the losses' state, the random state of its layers (which a
    plain Keras model's file lacks), the teacher's fingerprint; under torch the state of
    its random numbers too, from which Keras's `Dropout` without a seed draws there.

    It keeps the counters, best values and best weights of the other callbacks too:
    public attributes that are plain values or lists of arrays or strings, as those of
    `EarlyStopping`, `ReduceLROnPlateau`, `ModelCheckpoint`, `StudentCheckpoint` and
    `CSVLogger`. So `Distiller.fit` calls it last. In the `fit` of a plain Keras model,
    put it last and set `other_callbacks`. A run that `EarlyStopping` has ended trains
    for one more epoch where it is resumed. `SwapEMAWeights(swap_on_epoch=True)` is
    refused: which weights are in the model is private to it.

    Where several processes train together, rank 0 writes and all read: the folder must
    be one that all of them see.

    The data must be the same again, in an order that depends on the epoch alone. So
    must be the losses, their numbers, `task_weight`, the rollout and the optimizer, as
    they were set when the run began: what schedules and callbacks change in the run
    goes on from where it was.

    Args:
        folder: Where the file is. Made where there is none. One run, one folder.

    Attributes:
        epoch: How many epochs the file holds, 0 without one. `initial_epoch` of the
            `fit`.
        other_callbacks: The callbacks whose state it keeps. Set by `Distiller.fit`.

    Raises:
        ValueError: At the beginning of `fit`: another `initial_epoch`, the state of
            other models or losses or of other settings, a file that was damaged, or
            `SwapEMAWeights(swap_on_epoch=True)`.

    Example:

    >>> resume = Resume("run/state")
    >>> distiller.fit(
    ...     x, y, epochs=60, initial_epoch=resume.epoch, callbacks=[resume]
    ... )
    """

    # No moment of the run may depend on the machine's speed.
    continues_exactly = True

    def __init__(self, folder):
        super().__init__()
        self.folder = Path(folder)
        self._restored = False
        self.other_callbacks = []
        self._initial_settings = {}
        self._restored_states, self._initial_states = {}, {}

    @property
    def epoch(self):
        """How many epochs the file holds."""
        return max(self._files(), default=0)

    def check(self):
        """Raises a `ValueError` for a file that cannot be read, as a partial copy."""
        if path := self._files().get(self.epoch):
            try:
                h5py.File(path).close()
            except OSError as error:
                raise ValueError(
                    f"`Resume`: {path} cannot be read, or is damaged ({error}). Put it "
                    "back from a copy, or remove its folder to begin anew."
                ) from error

    def on_train_begin(self, logs=None):
        self._refuse_swapped_weights()
        self._restored = False
        self._initial_settings = collect_settings(self.model)
        self._initial_states = callback_states.collect_states(self.other_callbacks)
        self._restored_states = {}
        if path := self._files().get(self.epoch):
            optimizer = self.model.optimizer
            if not optimizer.built:
                # Its state is read into its variables.
                optimizer.build(self.model.trainable_variables)
            self.check()
            self._check_settings(path)
            try:
                self.model.load_weights(path)
            except (ValueError, KeyError, OSError) as error:
                raise ValueError(
                    f"`Resume`: the state in {self.folder} is not to be read into this "
                    "run: it is of another student, other losses or another teacher. "
                    "Make them as they were, or give a new folder. Keras raised: "
                    f"{describe_error(error)}"
                ) from error
            with h5py.File(path) as file:
                states = {n: s[()] for n, s in file.get(GENERATOR, {}).items()}
                for name, variable in _lora_variables(self.model).items():
                    variable.assign(file[LORA][name][()])
                self._restored_states = callback_states.read_states(file)
            backend.set_rng_state(states)
            # The others have set theirs back: this is the last of them.
            callback_states.restore_states(self.other_callbacks, self._restored_states)
        if backend.rank_and_world_size()[0] == 0:
            remove_partial_files(self.folder)

    def _refuse_swapped_weights(self):
        for callback in self.other_callbacks:
            is_swap = isinstance(callback, keras.callbacks.SwapEMAWeights)
            if is_swap and callback.swap_on_epoch:
                raise ValueError(
                    "`Resume`: `SwapEMAWeights(swap_on_epoch=True)` leaves averaged "
                    "weights in the model between epochs, and a resumed run would "
                    "train these. Use `SwapEMAWeights(swap_on_epoch=False)`, which "
                    "validates with the averages all the same."
                )

    def _check_settings(self, path):
        """Raises a `ValueError` for the state of a run with other settings."""
        with h5py.File(path) as file:
            if SETTINGS not in file:  # Of an earlier version.
                return
            saved = json.loads(file[SETTINGS].asstr()[()])
        # As the last ones are the same model's, which goes on in the same process.
        before = [saved["initial"], saved["last"]]
        if differences := describe_differences(before, self._initial_settings):
            raise ValueError(
                f"`Resume`: the state in {self.folder} is of a run with other "
                f"settings: {differences}. Make them as they were, or give a new "
                "folder. To change a number within a run, use a callback: "
                "`HyperparameterSchedule`, or `keras.callbacks.LearningRateScheduler`."
            )
        self._initial_settings |= saved["initial"]

    def on_epoch_begin(self, epoch, logs=None):
        if not self._restored and epoch != self.epoch:
            raise ValueError(
                f"`Resume`: {self.folder} holds the state after {self.epoch} epochs, "
                f"and this `fit` begins with `initial_epoch={epoch}`. Pass "
                "`initial_epoch=resume.epoch`, or give a new folder."
            )
        self._restored = True

    def on_epoch_end(self, epoch, logs=None):
        if backend.rank_and_world_size()[0] != 0:
            return
        before, path = self._files(), self.folder / f"{epoch + 1}.weights.h5"
        atomic_write(path, self._write)
        # All processes have read them before the first step, which they take together.
        for older in before.values():
            if older != path:
                older.unlink()

    def _write(self, path):
        self.model.save_weights(path, overwrite=True)
        settings = {"initial": self._initial_settings}
        settings["last"] = collect_settings(self.model)
        # Not what they were made with, such as times and paths.
        states = callback_states.select_changed(
            callback_states.collect_states(self.other_callbacks),
            self._initial_states,
            self._restored_states,
        )
        with h5py.File(path, "a") as file:
            callback_states.write_states(file, states)
            file[SETTINGS] = json.dumps(settings)
            for name, state in backend.get_rng_state().items():
                file[f"{GENERATOR}/{name}"] = state
            for name, variable in _lora_variables(self.model).items():
                if keras.backend.is_float_dtype(variable.dtype):
                    # HDF5 knows no bfloat16.
                    variable = ops.cast(variable, "float32")
                file[f"{LORA}/{name}"] = ops.convert_to_numpy(variable)

    def _files(self):
        """The files, by the number of epochs that they hold."""
        files = {}
        for path in self.folder.glob("*.weights.h5"):
            if match := re.fullmatch(r"(\d+)\.weights\.h5", path.name):
                files[int(match[1])] = path
        return files


def _lora_variables(model):
    """The variables of layers with LoRA, by number.

    Keras's own files hold such a kernel with its adapters added, and reading one sets
    both adapters to 0, from where no gradient leads.
    """
    layers = [x for x in iter_layers(model) if getattr(x, "lora_enabled", False)]
    variables = [variable for layer in layers for variable in layer.variables]
    return {str(number): variable for number, variable in enumerate(variables)}
