"""`train`: what is wrong is an error of one line, before the run begins."""

import importlib.util
import json
import re
import shutil

import h5py
import keras
import pytest

from keras_dtkd.cli.run_dir import lock
from tests.cli.conftest import read_run, run_folder, train_argv, with_output


def test_run_with_other_settings_is_a_user_error_with_the_differences(
    distilled, user_error
):
    error = user_error(
        [*distilled.argv, "--learning-rate", 0.5, "--precision", "float16"]
    )
    assert "other settings" in error and "--output" in error
    assert "learning_rate 0.05, now 0.5" in error
    assert "precision 'float32', now 'float16'" in error
    assert keras.config.dtype_policy().name == "float32"
    assert ", seed" not in error and "batch_size" not in error


def test_log_without_an_epoch_of_the_state_is_a_user_error(
    distilled, tmp_path, user_error
):
    copy = run_folder(tmp_path, "kd")
    shutil.copytree(distilled.folder, copy)
    (copy / "run.json").write_text(json.dumps({**read_run(copy), "status": "running"}))
    lines = (copy / "log.csv").read_bytes().splitlines(keepends=True)
    (copy / "log.csv").write_bytes(b"".join(lines[:2]))
    error = user_error(with_output(distilled.argv, tmp_path))
    assert "does not hold the 3 epochs" in error


def test_stored_outputs_of_a_varying_teacher_are_a_user_error(
    teacher, tmp_path, user_error
):
    error = user_error(
        train_argv(
            "--augmentations-per-image",
            2,
            method="r2kd",
            teacher=teacher,
            output=tmp_path,
        )
    )
    assert re.search("r2kd uses another teacher.*Omit --augmentations-per-image", error)


USER_ERRORS = {
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
        "unknown network 'resnet9'",
    ),
    "validation fraction of no image": (
        ["--method", "ce", "--validation", 0.0001],
        "0.0001 of 1297 training images is 0 images",
    ),
    "validation fraction of all images": (
        ["--method", "ce", "--validation", 0.9999],
        "0.9999 of 1297 training images is 1297 images",
    ),
    "size of images that have one": (
        ["--method", "ce", "--image-size", 16],
        "--image-size 16: the images of digits have a size of their own",
    ),
    "too many images": (
        ["--method", "ce", "--train-size", 5000],
        "1297 training images",
    ),
}


@pytest.mark.parametrize("case", USER_ERRORS)
def test_user_errors_come_before_the_start(case, tmp_path, user_error):
    options, message = USER_ERRORS[case]
    argv = ["train", "--data", "digits", "--student", "resnet8", *options]
    error = user_error([*argv, "--output", tmp_path])
    assert error.startswith("keras-dtkd train: ") and error.count("\n") == 1
    assert re.search(message, error), error
    assert not list(tmp_path.rglob("run.json"))


@pytest.mark.parametrize(
    "option, value, message",
    [
        ("--warmup", -1, "-1 is not an integer of at least 0"),
        ("--epochs", "abc", "abc is not an integer of at least 1"),
        ("--seed", -1, "-1 is not an integer in [0, 2**32)"),
        ("--seed", 2**32, "4294967296 is not an integer in [0, 2**32)"),
    ],
)
def test_option_out_of_range_is_a_usage_error(
    option, value, message, tmp_path, user_error
):
    error = user_error(train_argv(option, value, method="ce", output=tmp_path))
    assert error.endswith(f"error: argument {option}: {message}\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31m", "a\u202eb", "a\udcff"])
def test_a_name_that_run_json_cannot_hold_is_a_usage_error(name, user_error):
    error = user_error(train_argv(method="ce", output=name))
    assert f"error: {name!r} has control characters, or bytes" in error


@pytest.mark.skipif(importlib.util.find_spec("tensorboard"), reason="it is installed")
def test_missing_tensorboard_is_a_user_error(tmp_path, user_error):
    argv = train_argv("--tensorboard", method="ce", output=tmp_path)
    assert "pip install tensorboard" in user_error(argv)
    assert not list(tmp_path.iterdir())


def test_run_locked_by_another_process_is_a_user_error(tmp_path, user_error):
    with lock(run_folder(tmp_path, "ce", pair="resnet8")):
        error = user_error(train_argv(method="ce", output=tmp_path))
    assert "another process trains this run" in error


def test_teacher_of_another_network_is_a_user_error(teacher, tmp_path, user_error):
    argv = ["train", "--data", "digits", "--student", "resnet8"]
    argv += ["--teacher", "resnet14", "--output", tmp_path, "--teacher-weights"]
    assert "holds a resnet8" in user_error([*argv, teacher])
    error = user_error([*argv, teacher / "student.keras"])
    assert "not the weights of a resnet14" in error


@pytest.mark.parametrize("content", [b"PK cut off", b"text"])
def test_damaged_weights_file_is_named(content, tmp_path, user_error):
    path = tmp_path / "teacher.npz"
    path.write_bytes(content)
    error = user_error(train_argv(teacher=path, output=tmp_path / "runs"))
    assert f"{path} is not a complete `.npz` file" in error


def test_damaged_state_is_a_user_error(tmp_path, user_error):
    argv = train_argv("--epochs", 1, method="ce", output=tmp_path)
    state = run_folder(tmp_path, "ce", pair="resnet8") / "state" / "1.weights.h5"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"half of it")
    assert f"{state} cannot be read, or is damaged" in user_error(argv)


def test_state_without_run_json_is_a_user_error(tmp_path, user_error):
    argv = train_argv("--epochs", 1, method="ce", output=tmp_path)
    state = run_folder(tmp_path, "ce", pair="resnet8") / "state" / "1.weights.h5"
    state.parent.mkdir(parents=True)
    h5py.File(state, "w").close()
    assert "holds the state of a run without its run.json" in user_error(argv)
