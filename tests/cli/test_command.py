"""The command line, and the selection of the backend."""

import importlib.util
import os
import signal
import subprocess
import sys
import textwrap

import keras
import pytest

from keras_dtkd import backend
from keras_dtkd.cli import command, main

BACKEND = keras.backend.backend()


@pytest.mark.skipif(os.name != "posix", reason="a subprocess on other systems")
def test_another_backend_reruns_the_command_in_this_process(monkeypatch):
    calls = []
    monkeypatch.setattr(os, "execve", lambda *args: calls.append(args))
    monkeypatch.setattr(subprocess, "call", lambda *args, **kwargs: 0)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: "installed")
    other = "torch" if BACKEND == "jax" else "jax"
    argv = ["train", "--student", "resnet8", "--method", "ce", "--backend", other]
    command._rerun_on_backend(other, argv)
    (path, executed, environment), *_ = calls
    assert path == sys.executable
    assert executed == [sys.executable, "-m", "keras_dtkd.cli", *argv]
    assert environment["KERAS_BACKEND"] == other
    assert environment.keys() >= os.environ.keys()


def test_current_backend_needs_no_other_process(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(command, "_rerun_on_backend", pytest.fail)
    argv = ["train", "--student", "resnet8", "--backend", BACKEND]
    with pytest.raises(SystemExit):
        main([*argv, "--output", str(tmp_path)])
    assert "needs a --teacher" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [
        ["train", "--student", "resnet8", "--epochs", "0"],
        ["train", "--student", "resnet8", "--learning-rate", "nan"],
        ["train", "--student", "resnet8", "--validation", "1"],
        ["train", "--student", "resnet8", "--method", "unknown"],
        ["train"],
        ["compare", "--student", "resnet8", "--methods", "kd", "--seeds", "0"],
    ],
)
def test_invalid_option_values_are_usage_errors(argv, capsys):
    with pytest.raises(SystemExit) as exit:
        main(argv)
    assert exit.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.single_backend
@pytest.mark.parametrize(
    "argv", [["compare", "--methods", "ce", "--seed", "3"], ["train", "--epoch", "3"]]
)
def test_options_have_no_abbreviations(argv, user_error):
    error = user_error([*argv, "--data", "digits", "--student", "resnet8"])
    assert f"error: unrecognized arguments: {' '.join(argv[-2:])}\n" in error


def test_device_has_a_name():
    name, memory = backend.device_info()
    assert isinstance(name, str) and name
    assert memory is None or memory > 0


@pytest.mark.parametrize("name", ["train", "export"])
def test_missing_backend_is_a_user_error(name, monkeypatch, user_error):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    other = next(name for name in ("torch", "jax") if name != BACKEND)
    argv = {"train": ["--student", "resnet8"], "export": ["folder"]}[name]
    error = user_error([name, *argv, "--backend", other])
    assert f"--backend {other}: it is not installed" in error


def test_missing_extra_is_a_user_error(monkeypatch, tmp_path, user_error):
    monkeypatch.setitem(sys.modules, "filelock", None)
    argv = ["train", "--student", "resnet8", "--method", "ce", "--output", tmp_path]
    error = user_error(argv)
    assert "`filelock` is not installed: pip install filelock" in error
    assert "pip install '.[cli]'" in error


@pytest.mark.skipif(BACKEND == "tensorflow", reason="TensorFlow is its backend.")
def test_a_missing_tensorflow_is_found_before_a_run_begins(
    monkeypatch, tmp_path, user_error
):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    argv = ["train", "--data", "digits", "--student", "resnet8", "--method", "ce"]
    error = user_error([*argv, "--output", tmp_path])
    assert "`keras-dtkd` requires TensorFlow on every backend" in error
    assert not list(tmp_path.rglob("run.json"))


@pytest.mark.parametrize(
    "argv, continues",
    [(["train", "--student", "resnet8"], True), (["report", "."], False)],
)
def test_ctrl_c_prints_one_sentence(argv, continues, monkeypatch, capsys):
    def interrupt(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(command.COMMANDS[argv[0]], "run", interrupt)
    monkeypatch.setattr(command, "_exit_on_sigint", lambda: command.INTERRUPTED)
    assert main(argv) == command.INTERRUPTED
    error = capsys.readouterr().err
    assert error.startswith(f"\nkeras-dtkd {argv[0]}: interrupted.")
    assert ("The same command continues the run" in error) == continues


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_process_dies_of_sigint_after_ctrl_c():
    """So that a calling script ends too."""
    program = """
        from keras_dtkd.cli import command

        def interrupt(args):
            raise KeyboardInterrupt

        command.COMMANDS["report"].run = interrupt
        command.main(["report", "."])
    """
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True
    )
    assert process.returncode == -signal.SIGINT
    assert "Traceback" not in process.stderr
