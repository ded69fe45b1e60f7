"""One run: what it leaves, how it goes on, and what it refuses before it starts."""

import csv
import importlib.util
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import h5py
import keras
import numpy as np
import pytest

from keras_dtkd import datasets, recipes
from keras_dtkd.cli import callbacks, main
from keras_dtkd.cli.data import NAMES, in_order, read
from keras_dtkd.cli.errors import UserError
from keras_dtkd.core import atomic_io
from keras_dtkd.datasets.registry import NORMALIZATION
from tests.cli.conftest import BACKEND, folder, words


def told(path):
    return json.loads((path / "run.json").read_text())


def rows(path):
    with (path / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def elsewhere(words, output):
    place = words.index("--output") + 1
    return [*words[:place], str(output), *words[place + 1 :]]


def weights(path):
    return keras.saving.load_model(path, compile=False).get_weights()


def test_run_json_tells_all_that_repeats_it(distilled):
    run = told(distilled.folder)
    assert run["status"] == "finished" and run["judged_on"] == "validation"
    assert run["settings"]["seed"] == 0 and run["settings"]["backend"] == BACKEND
    recipe = recipes.Recipe.from_dict(run["recipe"])
    assert (recipe.epochs, recipe.batch_size, recipe.method) == (3, 32, "kd")
    (session,) = run["sessions"]
    assert session["versions"]["keras"] == keras.__version__
    assert session["command"] == ["keras-dtkd", *distilled.words]
    assert session["wall_seconds"] > 0 and session["peak_memory_bytes"] > 1e8
    assert run["result"]["step_seconds"] > 0
    assert run["parameters"] == 78426


def test_both_epochs_are_measured_on_the_test_images(distilled):
    """By the saved students, and arrays read by other means."""
    run = told(distilled.folder)
    _, (x, y) = datasets.load_arrays("digits")
    for which, file in (("last", "student.keras"), ("best", "best.keras")):
        model = keras.saving.load_model(distilled.folder / file, compile=False)
        logits = np.asarray(model.predict(x / np.float32(255), verbose=0))
        right = (logits.argmax(-1) == y).mean()
        assert run["result"][which]["accuracy"] == pytest.approx(right, abs=0.003)
    judged = [float(row["val_accuracy"]) for row in rows(distilled.folder)]
    assert run["result"]["best"]["epoch"] == 1 + int(np.argmax(judged))
    assert run["val_accuracy"] == pytest.approx(judged, abs=1e-6)
    assert run["result"]["last"]["epoch"] == 3


def test_without_validation_the_best_epoch_is_that_of_the_test_images(teacher):
    run = told(teacher)
    assert run["judged_on"] == "test"
    assert run["result"]["best"] == {"epoch": 1, "accuracy": run["val_accuracy"][0]}
    assert run["result"]["last"] == run["result"]["best"]
    assert not (teacher / "best.keras").exists()


def test_the_same_command_again_says_that_it_is_finished(distilled, capsys):
    before = (distilled.folder / "run.json").read_bytes()
    assert main(distilled.words) == 0
    assert "is finished: test accuracy" in capsys.readouterr().out
    assert (distilled.folder / "run.json").read_bytes() == before


def test_another_run_in_its_folder_is_refused_with_what_differs(distilled, refused):
    error = refused(
        [*distilled.words, "--learning-rate", 0.5, "--precision", "float16"]
    )
    assert "other settings" in error and "--output" in error
    assert "learning_rate 0.05, now 0.5" in error
    assert "precision 'float32', now 'float16'" in error
    assert keras.config.dtype_policy().name == "float32", "nothing was started"
    assert ", seed" not in error and "batch_size" not in error


def test_a_run_that_died_before_its_end_is_ended_alike(distilled, tmp_path):
    """After the last epoch, with a row and a half too many in the log."""
    copy = folder(tmp_path, "kd")
    shutil.copytree(distilled.folder, copy)
    (copy / "student.keras").unlink()
    run = told(copy)
    epoch = run["result"]["best"]["epoch"]
    (copy / "unfinished-01-run.json").write_text("{")
    (copy / "best-4.keras").write_text("of an epoch that the state does not hold")
    (copy / "best.keras").rename(copy / f"best-{epoch}.keras")
    result, sessions = run.pop("result"), run["sessions"]
    (copy / "run.json").write_text(json.dumps({**run, "status": "running"}))
    whole = (copy / "log.csv").read_bytes()
    (copy / "log.csv").write_bytes(whole + b"3,0.5,0.5\r\n4,0.")
    assert main(elsewhere(distilled.words, tmp_path)) == 0
    assert (copy / "log.csv").read_bytes() == whole
    assert told(copy)["result"] == result
    first, second = told(copy)["sessions"]
    assert first == sessions[0] and second["first_epoch"] == 3
    for name in ("student.keras", "best.keras"):
        files = [path / name for path in (copy, distilled.folder)]
        for ours, theirs in zip(*map(weights, files), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert not list(copy.glob("best-*")) and not list(copy.glob("unfinished-*"))


def test_the_best_student_is_of_an_epoch_that_the_log_has(tmp_path):
    """Killed after the student of an epoch was written, and before its state."""
    inputs = keras.Input((2,))
    student = keras.Model(inputs, keras.layers.Dense(2)(inputs))

    def kept():
        return sorted(path.name for path in tmp_path.glob("*.keras"))

    for epoch in (2, 4):
        callbacks.save(student, tmp_path / f"best-{epoch}.keras")
    best = callbacks.Best(tmp_path, student, [0.5, 0.7, 0.6])
    assert kept() == ["best-2.keras"]
    for epoch, accuracy, expected in (
        (3, 0.7, ["best-2.keras"]),
        (4, 0.8, ["best-2.keras", "best-5.keras"]),
        (5, 0.1, ["best-5.keras"]),
    ):
        best.on_epoch_end(epoch, {"val_accuracy": accuracy})
        assert kept() == expected
    with pytest.raises(UserError, match="best-1.keras, the best student so far"):
        callbacks.Best(tmp_path, student, [0.9])


def test_a_row_of_the_log_is_on_the_disk_before_the_state(tmp_path, monkeypatch):
    path, synced = tmp_path / "log.csv", []
    monkeypatch.setattr(
        atomic_io.os, "fsync", lambda _: synced.append(path.read_text())
    )
    log = callbacks.Log(path, append=True)
    log.set_model(None)
    log.on_train_begin()
    log.on_epoch_end(0, {"val_loss": 0.5})
    assert [line.split() for line in synced] == [["epoch,val_loss", "0,0.5"]]
    log.on_train_end()


@pytest.fixture
def channels_first():
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format(before)


def test_images_are_channels_last_whatever_keras_prefers(
    channels_first, teacher, tmp_path
):
    assert main(words("--epochs", 1, teacher=teacher, output=tmp_path)) == 0
    assert told(folder(tmp_path, "kd"))["status"] == "finished"


def test_a_log_that_lacks_an_epoch_of_the_state_is_refused(
    distilled, tmp_path, refused
):
    copy = folder(tmp_path, "kd")
    shutil.copytree(distilled.folder, copy)
    (copy / "run.json").write_text(json.dumps({**told(copy), "status": "running"}))
    lines = (copy / "log.csv").read_bytes().splitlines(keepends=True)
    (copy / "log.csv").write_bytes(b"".join(lines[:2]))
    error = refused(elsewhere(distilled.words, tmp_path))
    assert "does not hold the 3 epochs" in error


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
@pytest.mark.invariant(number=8)
def test_a_killed_run_ends_as_the_unbroken_one(teacher, tmp_path):
    """Killed twice, at a random moment of a random epoch, long before the last."""
    draw = random.Random()
    epochs = 12

    def start(name):
        options = ("--epochs", epochs, "--deterministic", "--validation", 0.1)
        told = words(*options, teacher=teacher, output=tmp_path / name)
        return subprocess.Popen([sys.executable, "-m", "keras_dtkd.cli", *told])

    unbroken, broken = (folder(tmp_path / name, "kd") for name in ("whole", "killed"))
    beside = start("whole")
    for first, last in ((1, 2), (3, 5)):
        until, wait = draw.randint(first, last), draw.uniform(0, 0.1)
        process = start("killed")
        while process.poll() is None:
            if (broken / "run.json").exists() and told(broken)["epochs_done"] >= until:
                time.sleep(wait)
                process.kill()
                process.wait()
            time.sleep(0.02)
        assert process.returncode == -signal.SIGKILL
    assert start("killed").wait() == 0 and beside.wait() == 0
    assert len(told(broken)["sessions"]) == 3
    for name in ("val_accuracy", "result"):
        both = [told(path)[name] for path in (broken, unbroken)]
        for one in both:
            isinstance(one, dict) and one.pop("step_seconds")
        assert both[0] == both[1]
    assert [row["epoch"] for row in rows(broken)] == [str(e) for e in range(epochs)]
    for file in ("student.keras", "best.keras"):
        found = (weights(path / file) for path in (broken, unbroken))
        for ours, theirs in zip(*found, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_ckd_is_calibrated_on_the_images_it_used(teacher, output):
    """Halfway between the teacher's logits and the one-hot labels, on the mean."""
    options = ("--epochs", 1, "--validation", 0.1)
    assert main(words(*options, method="ckd", teacher=teacher, output=output)) == 0
    path = folder(output, "ckd")
    x, y = read("digits", validation=0.1, train_size=96).train
    x = x / np.float32(255)
    files = [teacher / "student.keras", path / "student.keras", path / "best.keras"]
    models = [keras.saving.load_model(file, compile=False) for file in files]
    taught, *students = (np.asarray(m.predict(x, verbose=0)) for m in models)
    target = (taught + np.eye(10)[y]) / 2
    for student in students:
        np.testing.assert_allclose(student.mean(0), target.mean(0), atol=1e-4)


def test_with_versions_the_teacher_is_asked_once_for_all_runs(teacher, tmp_path):
    options = ("--epochs", 2, "--versions", 2)
    for method in ("ce", "kd", "ckd"):
        told_to = words(*options, method=method, teacher=teacher, output=tmp_path)
        assert main(told_to) == 0
        run = told(folder(tmp_path, method))
        assert run["status"] == "finished" and run["settings"]["versions"] == 2
    (answers,) = (tmp_path / "digits" / "answers").iterdir()
    assert np.load(answers / "outputs.npy").shape == (2 * 96, 10)
    # Digits are not augmented: both versions are the images themselves, and what is
    # learned is what a teacher that is asked in each step teaches.
    live = words("--epochs", 2, teacher=teacher, output=tmp_path / "live")
    assert main(live) == 0
    paths = [folder(where, "kd") for where in (tmp_path, tmp_path / "live")]
    for one, other in zip(*(weights(p / "student.keras") for p in paths), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4)
    assert main(words(*options, "--seed", 1, teacher=teacher, output=tmp_path)) == 0
    assert len(list((tmp_path / "digits" / "answers").iterdir())) == 1


def test_a_method_that_asks_in_each_step_has_no_versions(teacher, tmp_path, refused):
    error = refused(
        words("--versions", 2, method="r2kd", teacher=teacher, output=tmp_path)
    )
    assert re.search("r2kd asks another teacher.*Leave out --versions", error)


def test_warmup_is_the_recipes_unless_said_otherwise(teacher, tmp_path):
    options = ("--epochs", 1, "--warmup", 0)
    for method in ("dtkd_published", "kd"):
        told_to = words(*options, method=method, teacher=teacher, output=tmp_path)
        assert main(told_to) == 0
    run = told(folder(tmp_path, "dtkd_published"))
    assert run["settings"]["warmup"] == 0
    loss = run["recipe"]["distillation_losses"]["dtkd"]
    assert loss["arguments"]["warmup_epochs"] == 0
    # It has none, and so is no other run.
    assert told(folder(tmp_path, "kd"))["settings"]["warmup"] is None


REFUSALS = {
    "no teacher": (["--method", "dtkd"], "needs a --teacher.*--method ce.*resnet32x4"),
    "no weights": (
        ["--method", "dtkd", "--teacher", "resnet14"],
        "weights of the teacher resnet14.*--student resnet14 --data digits.*npz",
    ),
    "no such file": (
        ["--teacher", "resnet14", "--teacher-weights", "nowhere.keras"],
        "nowhere.keras: no such file",
    ),
    "no such network": (
        ["--method", "ce", "--student", "resnet9"],
        "network 'resnet9'",
    ),
    "share of no image": (
        ["--method", "ce", "--validation", 0.0001],
        "0.0001 of 1297 training images is 0 of them",
    ),
    "share of all images": (
        ["--method", "ce", "--validation", 0.9999],
        "0.9999 of 1297 training images is 1297 of them",
    ),
    "too many images": (
        ["--method", "ce", "--train-size", 5000],
        "1297 training images",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_done_is_said_before_anything_starts(case, tmp_path, refused):
    options, message = REFUSALS[case]
    command = ["train", "--data", "digits", "--student", "resnet8", *options]
    error = refused([*command, "--output", tmp_path])
    assert error.startswith("keras-dtkd train: ") and error.count("\n") == 1
    assert re.search(message, error), error
    assert not list(tmp_path.rglob("run.json"))


@pytest.mark.parametrize(
    "option, value, message",
    [
        ("--warmup", -1, "-1 is below 0"),
        ("--seed", -1, "-1 is below 0"),
        ("--seed", 2**32, "4294967296 is not below 2**32"),
    ],
)
def test_a_number_out_of_range_is_refused(option, value, message, tmp_path, refused):
    error = refused(words(option, value, method="ce", output=tmp_path))
    assert error.endswith(f"error: argument {option}: {message}\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(importlib.util.find_spec("tensorboard"), reason="it is there")
def test_logs_for_a_tensorboard_that_is_not_there_are_refused(tmp_path, refused):
    command = words("--tensorboard", method="ce", output=tmp_path)
    assert "pip install tensorboard" in refused(command)
    assert not list(tmp_path.iterdir())


def test_one_run_is_trained_by_one_process(tmp_path, refused):
    from keras_dtkd.cli.run_dir import alone

    with alone(folder(tmp_path, "ce", pair="resnet8")):
        error = refused(words(method="ce", output=tmp_path))
    assert "another process trains this run" in error


def test_a_teacher_of_another_network_is_refused(teacher, tmp_path, refused):
    command = ["train", "--data", "digits", "--student", "resnet8"]
    command += ["--teacher", "resnet14", "--output", tmp_path, "--teacher-weights"]
    assert "holds a resnet8" in refused([*command, teacher])
    error = refused([*command, teacher / "student.keras"])
    assert "not the weights of a resnet14" in error


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5", ".npz"])
def test_teachers_weights_come_in_three_kinds_of_file(suffix, teacher, tmp_path):
    from keras_dtkd.cli.teacher import load

    model = keras.saving.load_model(teacher / "student.keras", compile=False)
    path = tmp_path / f"teacher{suffix}"
    if suffix == ".keras":
        model.save(path)
    elif suffix == ".npz":
        np.savez(path, **as_torch(model))
    else:
        model.save_weights(path)
    found = load(path, "resnet8", read("digits"))
    for ours, theirs in zip(found.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def as_torch(model):
    """Its weights under mdistiller's names."""
    names = {"gamma": "weight", "beta": "bias", "kernel": "weight", "bias": "bias"}
    names |= {"moving_mean": "running_mean", "moving_variance": "running_var"}
    found = {}
    for layer in model.layers:
        parts = layer.name.replace("logits", "fc").split("_")
        dotted = ".".join(parts)
        for variable in layer.weights:
            array = keras.ops.convert_to_numpy(variable.value)
            if variable.name == "kernel":
                array = array.transpose((3, 2, 0, 1) if array.ndim == 4 else (1, 0))
            found[f"{dotted}.{names[variable.name]}"] = array
    return found


def test_a_small_study_is_a_part_of_each_larger_one():
    few, more = (read("digits", train_size=n).train for n in (50, 200))
    again = read("digits", train_size=50).train
    np.testing.assert_array_equal(few[0], again[0])
    rows_of = [{row.tobytes() for row in x.reshape(len(x), -1)} for x, _ in (few, more)]
    assert rows_of[0] <= rows_of[1] and len(few[0]) == 50


@pytest.mark.parametrize("name", NAMES)
def test_images_are_normalised_as_the_data_sets_are(name, monkeypatch):
    """A run opens its own arrays, and normalises them as the named data sets."""
    from keras_dtkd.datasets import registry

    channels = 3 if name.startswith("cifar") else 1
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, channels), "uint8")
    part = (images, np.arange(4, dtype="int32"))
    monkeypatch.setattr(registry, "load_arrays", lambda *args, **kwargs: (part, part))
    expected = next(iter(getattr(datasets, name)(batch_size=4)[1]))[0]
    whole = read("digits")._replace(data=name)
    found = next(iter(in_order(whole, part)))[0]
    assert set(NORMALIZATION) == set(NAMES)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


@pytest.mark.parametrize("content", [b"PK cut off", b"words"])
def test_a_damaged_file_of_weights_is_named(content, tmp_path, refused):
    path = tmp_path / "teacher.npz"
    path.write_bytes(content)
    error = refused(words(teacher=path, output=tmp_path / "runs"))
    assert f"{path} is not a complete `.npz` file" in error


def test_a_damaged_state_is_told_before_anything_is_trained(tmp_path, refused):
    told = words("--epochs", 1, method="ce", output=tmp_path)
    state = folder(tmp_path, "ce", pair="resnet8") / "state" / "1.weights.h5"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"half of it")
    assert f"{state} cannot be read, or is damaged" in refused(told)


def test_a_state_without_its_run_json_is_nobodys(tmp_path, refused):
    told = words("--epochs", 1, method="ce", output=tmp_path)
    state = folder(tmp_path, "ce", pair="resnet8") / "state" / "1.weights.h5"
    state.parent.mkdir(parents=True)
    h5py.File(state, "w").close()
    assert "holds the state of a run whose run.json is not there" in refused(told)


def test_missing_data_names_the_option(tmp_path, refused, monkeypatch):
    def missing(*args, **kwargs):
        raise FileNotFoundError("`digits` is nowhere.")

    monkeypatch.setattr(datasets, "load_arrays", missing)
    error = refused(words(method="ce", output=tmp_path))
    assert "`digits` is nowhere." in error and "--data-dir DIR" in error
