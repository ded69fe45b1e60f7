"""`train`: files of a run, and its continuation."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller, datasets, recipes
from keras_dtkd.cli import callbacks, evaluate, main
from keras_dtkd.cli.data import NAMES, load, load_teacher, sequential_batches
from keras_dtkd.cli.errors import UserError
from keras_dtkd.core import atomic_io
from keras_dtkd.datasets.registry import NORMALIZATION
from tests.cli.conftest import (
    BACKEND,
    read_run,
    run_folder,
    train_argv,
    with_output,
)
from tests.scripts import start_script


def read_log(path):
    with (path / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def assert_same_weights(*paths, atol=0.0):
    models = [keras.saving.load_model(path, compile=False) for path in paths]
    for pair in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(*pair, rtol=0, atol=atol)


def test_run_json_has_settings_recipe_and_environment(distilled):
    run = read_run(distilled.folder)
    assert run["status"] == "finished" and run["judged_on"] == "validation"
    assert run["settings"]["seed"] == 0 and run["settings"]["backend"] == BACKEND
    recipe = recipes.Recipe.from_dict(run["recipe"])
    assert (recipe.epochs, recipe.batch_size, recipe.method) == (3, 32, "kd")
    (session,) = run["sessions"]
    assert session["versions"]["keras"] == keras.__version__
    assert session["command"] == ["keras-dtkd", *distilled.argv]
    assert session["wall_seconds"] > 0 and session["peak_memory_bytes"] > 1e8
    assert run["result"]["step_seconds"] > 0
    assert run["parameters"] == 78426


def test_best_and_last_epoch_are_evaluated_on_the_test_images(distilled):
    """Compared with the saved students on separately loaded arrays."""
    run = read_run(distilled.folder)
    _, (x, y) = datasets.load_arrays("digits")
    for which, file in (("last", "student.keras"), ("best", "best.keras")):
        model = keras.saving.load_model(distilled.folder / file, compile=False)
        logits = np.asarray(model.predict(x / np.float32(255), verbose=0))
        accuracy = (logits.argmax(-1) == y).mean()
        assert run["result"][which]["accuracy"] == pytest.approx(accuracy, abs=0.003)
    logged = [float(row["val_accuracy"]) for row in read_log(distilled.folder)]
    assert run["result"]["best"]["epoch"] == 1 + int(np.argmax(logged))
    assert run["val_accuracy"] == pytest.approx(logged, abs=1e-6)
    assert run["result"]["last"]["epoch"] == 3


def test_without_validation_the_best_epoch_is_chosen_on_the_test_images(teacher):
    run = read_run(teacher)
    assert run["judged_on"] == "test"
    assert run["result"]["best"] == {"epoch": 1, "accuracy": run["val_accuracy"][0]}
    assert run["result"]["last"] == run["result"]["best"]
    assert not (teacher / "best.keras").exists()


def test_finished_run_is_not_trained_again(distilled, capsys):
    before = (distilled.folder / "run.json").read_bytes()
    assert main(distilled.argv) == 0
    assert "is finished: test accuracy" in capsys.readouterr().out
    assert (distilled.folder / "run.json").read_bytes() == before


def test_run_killed_after_its_last_epoch_ends_alike(distilled, tmp_path):
    """With one and a half excess rows in the log."""
    copy = run_folder(tmp_path, "kd")
    shutil.copytree(distilled.folder, copy)
    (copy / "student.keras").unlink()
    run = read_run(copy)
    epoch = run["result"]["best"]["epoch"]
    (copy / "unfinished-01-run.json").write_text("{")
    (copy / "best-4.keras").write_text("of an epoch after the state")
    (copy / "best.keras").rename(copy / f"best-{epoch}.keras")
    result, sessions = run.pop("result"), run["sessions"]
    (copy / "run.json").write_text(json.dumps({**run, "status": "running"}))
    log = (copy / "log.csv").read_bytes()
    (copy / "log.csv").write_bytes(log + b"3,0.5,0.5\r\n4,0.")
    assert main(with_output(distilled.argv, tmp_path)) == 0
    assert (copy / "log.csv").read_bytes() == log
    assert read_run(copy)["result"] == result
    first, second = read_run(copy)["sessions"]
    assert first == sessions[0] and second["first_epoch"] == 3
    for name in ("student.keras", "best.keras"):
        assert_same_weights(copy / name, distilled.folder / name)
    assert not list(copy.glob("best-*")) and not list(copy.glob("unfinished-*"))


def test_best_student_is_kept_until_the_state_has_the_next(tmp_path):
    """A kill may come after the student of an epoch is saved and before its state."""
    inputs = keras.Input((2,))
    student = keras.Model(inputs, keras.layers.Dense(2)(inputs))

    def saved():
        return sorted(path.name for path in tmp_path.glob("*.keras"))

    for epoch in (2, 4):
        callbacks.save_student(student, tmp_path / f"best-{epoch}.keras")
    best = callbacks.BestStudent(tmp_path, student, [0.5, 0.7, 0.6])
    assert saved() == ["best-2.keras"]
    for epoch, accuracy, expected in (
        (3, 0.7, ["best-2.keras"]),
        (4, 0.8, ["best-2.keras", "best-5.keras"]),
        (5, 0.1, ["best-5.keras"]),
    ):
        best.on_epoch_end(epoch, {"val_accuracy": accuracy})
        assert saved() == expected
    with pytest.raises(UserError, match="best-1.keras, the best student so far"):
        callbacks.BestStudent(tmp_path, student, [0.9])


def test_log_is_synced_after_each_row(tmp_path, monkeypatch):
    path, synced = tmp_path / "log.csv", []
    monkeypatch.setattr(
        atomic_io.os, "fsync", lambda _: synced.append(path.read_text())
    )
    log = keras.callbacks.CSVLogger(path, append=True)
    progress = callbacks.RunProgress(tmp_path, {"sessions": [{}]})
    log.set_model(None)
    log.on_train_begin()
    for callback in (log, progress):
        callback.on_epoch_end(0, {"val_loss": 0.5})
    assert synced[0].split() == ["epoch,val_loss", "0,0.5"]
    log.on_train_end()


@pytest.fixture
def channels_first():
    previous = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format(previous)


def test_images_are_channels_last_under_a_channels_first_config(
    channels_first, teacher, tmp_path
):
    assert main(train_argv("--epochs", 1, teacher=teacher, output=tmp_path)) == 0
    assert read_run(run_folder(tmp_path, "kd"))["status"] == "finished"


# Imports for seconds: a run without interruption, and the killed run's continuation.
UNBROKEN_AND_RESUMED = """
import json, sys
from keras_dtkd.cli import main
unbroken, resumed = json.loads(sys.argv[1])
assert main(unbroken) == 0
print("finished", flush=True)
input()
assert main(resumed) == 0
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
@pytest.mark.invariant(number=8)
def test_killed_run_ends_as_the_unbroken_one(teacher, tmp_path):
    """Killed at a random moment of a random epoch, before the last."""
    generator, epochs = random.Random(), 5
    options = ("--epochs", epochs, "--deterministic", "--validation", 0.1)
    unbroken, killed = (
        train_argv(*options, teacher=teacher, output=tmp_path / name)
        for name in ("unbroken", "killed")
    )
    folders = [run_folder(tmp_path / name, "kd") for name in ("unbroken", "killed")]
    command = [sys.executable, "-c", UNBROKEN_AND_RESUMED]
    both = subprocess.Popen(
        [*command, json.dumps([unbroken, killed])], stdin=subprocess.PIPE, text=True
    )
    process = subprocess.Popen([sys.executable, "-m", "keras_dtkd.cli", *killed])
    epoch, delay = generator.randint(1, 3), generator.uniform(0, 0.1)
    path = folders[1] / "run.json"
    while process.poll() is None:
        if path.exists() and read_run(folders[1])["epochs_done"] >= epoch:
            time.sleep(delay)
            process.kill()
            process.wait()
        time.sleep(0.02)
    assert process.returncode == -signal.SIGKILL
    both.communicate("continue\n")
    assert both.returncode == 0
    runs = [read_run(folder) for folder in folders]
    assert [len(run["sessions"]) for run in runs] == [1, 2]
    for run in runs:
        run["result"].pop("step_seconds")
    for name in ("val_accuracy", "result"):
        assert runs[0][name] == runs[1][name]
    logged = [row["epoch"] for row in read_log(folders[1])]
    assert logged == [str(epoch) for epoch in range(epochs)]
    for name in ("student.keras", "best.keras"):
        assert_same_weights(folders[0] / name, folders[1] / name)


@pytest.mark.parametrize("option", [[], ["--torch-compile"]])
def test_networks_are_compiled_where_that_is_asked_for(
    option, teacher, tmp_path, monkeypatch
):
    """Not by themselves: a run that goes on would get there at another step."""
    found = []

    def fit(self, *args, **kwargs):
        found.append(self.torch_compile)
        raise OSError("not in this test")

    monkeypatch.setattr(Distiller, "fit", fit)
    with pytest.raises(SystemExit):
        main(train_argv(*option, teacher=teacher, output=tmp_path))
    assert found == [bool(option)]


def test_a_student_alone_is_not_compiled_and_says_so(tmp_path):
    argv = train_argv("--epochs", 1, "--torch-compile", method="ce", output=tmp_path)
    assert main(argv) == 0
    run = read_run(run_folder(tmp_path, "ce", pair="resnet8"))
    assert "torch_compile" not in run["settings"]


def test_runs_with_the_same_teacher_evaluate_it_once(teacher, tmp_path, monkeypatch):
    found = []

    def accuracy(*args):
        found.append(args)
        return 0.5

    def fit(*args, **kwargs):
        raise OSError("not in this test")

    monkeypatch.setattr(evaluate, "accuracy", accuracy)
    monkeypatch.setattr(Distiller, "fit", fit)

    def count(method, weights):
        argv = train_argv(method=method, teacher=weights, output=tmp_path / "runs")
        with pytest.raises(SystemExit):
            main(argv)
        run = read_run(run_folder(tmp_path / "runs", method))
        assert run["teacher_accuracy"] == 0.5
        return len(found)

    for method in ("kd", "dkd", "kd"):
        assert count(method, teacher) == 1
    # A damaged file of another run is no reason to stop this one.
    (run_folder(tmp_path / "runs", "kd") / "run.json").write_text("{")
    assert count("dist", teacher) == 1
    other = keras.saving.load_model(teacher / "student.keras", compile=False)
    other.layers[-1].bias.assign(other.layers[-1].bias + 1.0)
    other.save(tmp_path / "other.keras")
    assert count("ls", tmp_path / "other.keras") == 2


def test_ckd_is_calibrated_on_its_training_images(teacher, output):
    """The mean output is halfway between teacher logits and one-hot labels."""
    options = ("--epochs", 1, "--validation", 0.1)
    assert main(train_argv(*options, method="ckd", teacher=teacher, output=output)) == 0
    path = run_folder(output, "ckd")
    x, y = load("digits", validation=0.1, train_size=96).train
    x = x / np.float32(255)
    files = [teacher / "student.keras", path / "student.keras", path / "best.keras"]
    models = [keras.saving.load_model(file, compile=False) for file in files]
    teacher_logits, *students = (np.asarray(m.predict(x, verbose=0)) for m in models)
    target = (teacher_logits + np.eye(10)[y]) / 2
    for student in students:
        np.testing.assert_allclose(student.mean(0), target.mean(0), atol=1e-4)


def test_teacher_outputs_are_stored_once_for_all_runs(teacher, tmp_path):
    options = ("--augmentations-per-image", 2)
    for method, epochs, seed in (("ce", 1, 0), ("kd", 2, 0), ("ckd", 1, 1)):
        argv = train_argv(
            *("--epochs", epochs, "--seed", seed, *options),
            **{"method": method, "teacher": teacher, "output": tmp_path},
        )
        assert main(argv) == 0
        run = read_run(run_folder(tmp_path, method, seed))
        assert run["status"] == "finished" and run["settings"]["versions"] == 2
    (stored,) = (tmp_path / "digits" / "teacher_outputs").iterdir()
    assert np.load(stored / "outputs.npy").shape == (2 * 96, 10)
    # Digits are not augmented: both versions are the images themselves, and the run
    # equals that of a teacher that runs in each step.
    live = tmp_path / "live"
    assert main(train_argv("--epochs", 2, teacher=teacher, output=live)) == 0
    folders = [run_folder(path, "kd") for path in (tmp_path, live)]
    assert_same_weights(*(path / "student.keras" for path in folders), atol=2e-4)


def test_warmup_option_applies_to_methods_with_a_warmup(teacher, tmp_path):
    options = ("--epochs", 1, "--warmup", 0)
    for method in ("dtkd_published", "kd"):
        argv = train_argv(*options, method=method, teacher=teacher, output=tmp_path)
        assert main(argv) == 0
    run = read_run(run_folder(tmp_path, "dtkd_published"))
    assert run["settings"]["warmup"] == 0
    loss = run["recipe"]["distillation_losses"]["dtkd"]
    assert loss["arguments"]["warmup_epochs"] == 0
    # Without a warm-up the option does not make another run.
    assert read_run(run_folder(tmp_path, "kd"))["settings"]["warmup"] is None


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5", ".npz"])
def test_teacher_weights_load_from_each_file_format(suffix, teacher, tmp_path):
    model = keras.saving.load_model(teacher / "student.keras", compile=False)
    path = tmp_path / f"teacher{suffix}"
    if suffix == ".keras":
        model.save(path)
    elif suffix == ".npz":
        np.savez(path, **to_torch_weights(model))
    else:
        model.save_weights(path)
    loaded = load_teacher(path, "resnet8", load("digits"))
    for actual, expected in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(actual, expected)


def to_torch_weights(model):
    """The weights under the names of mdistiller."""
    names = {"gamma": "weight", "beta": "bias", "kernel": "weight", "bias": "bias"}
    names |= {"moving_mean": "running_mean", "moving_variance": "running_var"}
    arrays = {}
    for layer in model.layers:
        prefix = layer.name.replace("logits", "fc").replace("_", ".")
        for variable in layer.weights:
            array = keras.ops.convert_to_numpy(variable.value)
            if variable.name == "kernel":
                array = array.transpose((3, 2, 0, 1) if array.ndim == 4 else (1, 0))
            arrays[f"{prefix}.{names[variable.name]}"] = array
    return arrays


def test_train_size_selects_nested_subsets():
    small, large = (load("digits", train_size=n).train for n in (50, 200))
    repeated = load("digits", train_size=50).train
    np.testing.assert_array_equal(small[0], repeated[0])
    subset, superset = ({image.tobytes() for image in x} for x, _ in (small, large))
    assert subset <= superset and len(small[0]) == 50


@pytest.mark.parametrize("name", NAMES)
def test_images_are_normalized_as_in_the_data_set(name, monkeypatch):
    """A run loads arrays, and normalizes them as the function of the data set does."""
    from keras_dtkd.datasets import registry

    channels = 3 if name.startswith("cifar") else 1
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, channels), "uint8")
    part = (images, np.arange(4, dtype="int32"))
    monkeypatch.setattr(registry, "load_arrays", lambda *args, **kwargs: (part, part))
    expected = next(iter(getattr(datasets, name)(batch_size=4)[1]))[0]
    images = load("digits")._replace(data=name)
    actual = next(iter(sequential_batches(images, part)))[0]
    assert set(NORMALIZATION) == set(NAMES)
    np.testing.assert_array_equal(np.asarray(actual), np.asarray(expected))


def test_on_other_backends_tensorflow_is_loaded_in_silence():
    pytest.importorskip("tensorflow")
    seed = "import sys; from keras_dtkd.cli.train import seed_quietly; seed_quietly(1)"
    found = start_script("-c", f"{seed}; print('tensorflow' in sys.modules)")
    assert found.stdout == "True\n"
    assert found.stderr == ""
