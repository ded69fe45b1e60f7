"""Invariant 8: stop, save, load, give the teacher again, go on."""

import json
import re
import zipfile

import h5py
import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.losses import DTKD, KD
from tests.scripts import start_script
from tests.selection import RUNS_EVERYTHING
from tests.tiny_models import (
    data,
    distiller,
    everything,
    numbers,
    same,
    student,
    teacher,
)

pytestmark = pytest.mark.invariant(number=8)

EPOCHS = 4
X, Y = data(24)


def losses():
    return [KD(2.0), DTKD(rule="std", stop_gradient="weight", warmup_epochs=3)]


def fresh(compiled):
    """A Distiller with all that has a state: dropout, Adam, a warm-up, numbers."""
    small = student(dropout=0.3, norm=True)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    options = {"optimizer": keras.optimizers.Adam(0.01), "loss": loss}
    if compiled == "student":
        small.compile(**options, metrics=["accuracy"])
    d = Distiller(teacher(), small, losses(), task_weight=0.5)
    if compiled == "distiller":
        d.compile(**options, metrics=["accuracy"])
    return d


def run(d, start=0, stop=EPOCHS, callbacks=()):
    return d.fit(
        X,
        Y,
        batch_size=8,
        initial_epoch=start,
        epochs=stop,
        shuffle=False,
        callbacks=list(callbacks),
        verbose=0,
    ).history


# Who compiles is a matter of the backend where it is nobody: `fit` does.
COMPILED_BY = ["nobody", "distiller"]
if RUNS_EVERYTHING:
    COMPILED_BY += ["student"]


@pytest.fixture(scope="module", params=COMPILED_BY)
def unbroken(request, tmp_path_factory):
    """A run that never stopped; it left a checkpoint of each kind in each epoch."""
    folder = tmp_path_factory.mktemp(request.param)
    d = fresh(request.param)
    checkpoints = [
        keras.callbacks.ModelCheckpoint(folder / "{epoch}.keras"),
        keras.callbacks.ModelCheckpoint(
            folder / "{epoch}.weights.h5", save_weights_only=True
        ),
    ]
    logs = run(d, callbacks=checkpoints)
    return request.param, d, logs, folder


def is_the_unbroken_run(d, logs, unbroken):
    _, reference, expected, _ = unbroken
    assert same(d, reference)
    optimizers = (
        [keras.ops.convert_to_numpy(v.value) for v in m.optimizer.variables]
        for m in (d, reference)
    )
    assert same(*optimizers)
    assert {k: v[-len(logs["loss"]) :] for k, v in expected.items()} == logs


def test_a_saved_distiller_continues_bit_for_bit(unbroken, tmp_path):
    d = fresh(unbroken[0])
    run(d, stop=2)
    d.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    loaded.teacher = teacher()
    is_the_unbroken_run(loaded, run(loaded, 2), unbroken)


def test_a_checkpoint_continues_bit_for_bit(unbroken):
    loaded = keras.models.load_model(unbroken[3] / "2.keras")
    loaded.teacher = teacher()
    is_the_unbroken_run(loaded, run(loaded, 2), unbroken)


def test_a_checkpoint_of_weights_continues_bit_for_bit(unbroken):
    d = fresh(unbroken[0])
    # Compiles, and builds the optimizer, whose state is in the file.
    run(d, stop=1)
    d.load_weights(unbroken[3] / "2.weights.h5")
    is_the_unbroken_run(d, run(d, 2), unbroken)


class Crash(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == 2 and batch == 1:
            raise SystemError("power cut")

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch


def test_a_crashed_run_continues_bit_for_bit(unbroken, tmp_path):
    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    with pytest.raises(SystemError):
        run(fresh(unbroken[0]), callbacks=[backup(), Crash()])
    # A new process: nothing of the old one is left.
    d = fresh(unbroken[0])
    is_the_unbroken_run(d, run(d, callbacks=[backup()]), unbroken)


def test_early_stopping_restores_the_best_weights():
    x, y = data(24)
    d = distiller(KD(), keras.optimizers.SGD(5.0, momentum=0.9))
    best = {}

    class Best(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if logs["loss"] < best.get("loss", np.inf):
                best.update(loss=logs["loss"], weights=numbers(self.model.student))

    stopping = keras.callbacks.EarlyStopping(
        "loss", patience=2, restore_best_weights=True
    )
    before = everything(d.teacher)
    history = d.fit(x, y, epochs=12, callbacks=[Best(), stopping], verbose=0)
    assert len(history.epoch) < 12 and stopping.best_epoch < history.epoch[-1]
    assert same(numbers(d.student), best["weights"])
    assert everything(d.teacher) == before


# What is in the files.


def large_teacher():
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(20000, name="secret_dense"),
            keras.layers.Dense(4, name="secret_head"),
        ],
        name="secret",
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    d = distiller(KD(), "adam", teacher=large_teacher())
    d.fit(*data(16), verbose=0)
    d.save(folder / "d.keras")
    d.save_weights(folder / "d.weights.h5")
    return d, folder


def datasets(path):
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.update({name: item.size})
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    return found


def test_files_hold_nothing_of_the_teacher_but_its_fingerprint(files):
    d, folder = files
    with zipfile.ZipFile(folder / "d.keras") as archive:
        archive.extract("model.weights.h5", folder)
        config = archive.read("config.json").decode()
    fingerprint = d.teacher_fingerprint()
    known = sum(int(np.prod(v.shape)) for v in [*d.variables, *d.optimizer.variables])
    for file in ("model.weights.h5", "d.weights.h5"):
        found = datasets(folder / file)
        # A metric's state may be in it, and the fingerprint is.
        assert sum(found.values()) <= known + len(fingerprint)
        assert [n for n in found if re.search("secret|teacher", n)] == [
            n for n in found if n.endswith("teacher_fingerprint")
        ]
        assert (folder / file).stat().st_size < 200_000
    assert "secret" not in config
    assert json.loads(config)["config"]["teacher_fingerprint"] == fingerprint


def test_the_student_is_saved_and_loaded_like_any_model(files, tmp_path):
    d, _ = files
    x, _ = data(8)
    d.student.save(tmp_path / "student.keras")
    loaded = keras.models.load_model(tmp_path / "student.keras")
    assert type(loaded) is type(d.student)
    assert np.array_equal(loaded.predict(x, verbose=0), d.student.predict(x, verbose=0))


def test_a_loaded_distiller_without_teacher_raises(files):
    loaded = keras.models.load_model(files[1] / "d.keras")
    x, y = data(8)
    before = numbers(loaded)
    with pytest.raises(ValueError, match=r"no teacher.*distiller\.teacher = teacher"):
        loaded.fit(x, y, verbose=0)
    with pytest.raises(ValueError, match="no teacher"):
        loaded.train_on_batch(x, y)
    assert same(before, numbers(loaded))


def test_a_loaded_distiller_evaluates_and_predicts_without_a_teacher(files):
    d, folder = files
    x, y = data(8)
    loaded = keras.models.load_model(folder / "d.keras")
    assert np.array_equal(loaded.predict(x, verbose=0), d.predict(x, verbose=0))
    for _ in range(2):
        assert loaded.evaluate(x, y, verbose=0) == pytest.approx(
            d.evaluate(x, y, verbose=0)
        )


def test_another_teacher_is_refused_after_loading(files):
    loaded = keras.models.load_model(files[1] / "d.keras")
    with pytest.raises(ValueError, match="another teacher.*fingerprint"):
        loaded.teacher = large_teacher()
    assert loaded.teacher is None


def test_the_same_teacher_loaded_from_a_file_is_accepted(files, tmp_path):
    d, folder = files
    d.teacher.save(tmp_path / "teacher.keras")
    loaded = keras.models.load_model(folder / "d.keras")
    loaded.teacher = keras.models.load_model(tmp_path / "teacher.keras")
    assert loaded.fit(*data(8), verbose=0).history["loss"][0] > 0


def test_weights_of_a_run_with_another_teacher_are_refused(files):
    d = distiller(KD(), "adam")
    d.fit(*data(8), verbose=0)
    before = numbers(d)
    with pytest.raises(ValueError, match="another teacher.*fingerprint"):
        d.load_weights(files[1] / "d.weights.h5")
    assert same(before, numbers(d))


def test_a_backup_of_a_run_with_another_teacher_is_refused(tmp_path):
    with pytest.raises(SystemError):
        run(
            fresh("distiller"),
            callbacks=[keras.callbacks.BackupAndRestore(tmp_path), Crash()],
        )
    small = student(dropout=0.3, norm=True)
    d = Distiller(teacher(scale=2.0), small, losses(), task_weight=0.5)
    before = numbers(small)
    with pytest.raises(ValueError, match="another teacher.*fingerprint"):
        run(d, callbacks=[keras.callbacks.BackupAndRestore(tmp_path)])
    assert same(before, numbers(small))


def test_a_configuration_makes_the_same_distiller_again():
    d = Distiller(
        teacher(),
        student(),
        {
            "a": KD(3.0, "jsd", weight=0.5, warmup_epochs=2),
            "b": DTKD(rule="std", stop_gradient="weight"),
        },
        task_weight=0.25,
        from_logits=True,
        evaluate_distillation=True,
    )
    config = json.loads(json.dumps(d.get_config()))
    again = Distiller.from_config(config)
    assert json.loads(json.dumps(again.get_config())) == config
    assert again.task_weight == 0.25 and again.evaluate_distillation
    assert again.distillation_losses["b"].get_config()["rule"] == "std"


def test_hyperparameters_changed_in_training_are_saved(tmp_path):
    d = distiller(DTKD())
    d.fit(*data(8), verbose=0)
    d.task_weight = 0.125
    d.distillation_losses["dtkd"].temperature = 3.0
    d.distillation_losses["dtkd"].weight = 0.75
    d.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    loss = loaded.distillation_losses["dtkd"]
    assert loaded.task_weight == 0.125 and loss.weight == 0.75
    assert float(loss.temperature.temperature) == 3.0


@pytest.mark.single_backend
def test_a_file_says_how_to_get_at_the_student_where_keras_dtkd_is_not_imported(
    tmp_path,
):
    path = tmp_path / "d.keras"
    Distiller(teacher(), student()).save(path)
    found = start_script("-c", f"import keras; keras.models.load_model({str(path)!r})")
    assert found.returncode == 1
    assert "`keras.saving.load_model(file).student` is the student" in found.stderr
