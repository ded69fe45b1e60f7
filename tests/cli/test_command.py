"""From words to a command, on the backend that was asked for."""

import importlib.util
import os
import signal
import subprocess
import sys
import textwrap

import keras
import pytest

from keras_dtkd import backend
from keras_dtkd.cli import command as module
from keras_dtkd.cli import main

BACKEND = keras.backend.backend()


@pytest.mark.skipif(os.name != "posix", reason="elsewhere it is a child")
def test_another_backend_is_the_same_command_again_in_this_process(monkeypatch):
    called = []
    monkeypatch.setattr(os, "execve", lambda *args: called.append(args))
    monkeypatch.setattr(subprocess, "call", lambda *args, **kwargs: 0)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: "installed")
    other = "torch" if BACKEND == "jax" else "jax"
    words = ["train", "--student", "resnet8", "--method", "ce", "--backend", other]
    module._elsewhere(other, words)
    (path, argv, environment), *_ = called
    assert path == sys.executable
    assert argv == [sys.executable, "-m", "keras_dtkd.cli", *words]
    assert environment["KERAS_BACKEND"] == other
    assert environment.keys() >= os.environ.keys()


def test_the_running_backend_needs_no_other_process(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(module, "_elsewhere", pytest.fail)
    words = ["train", "--student", "resnet8", "--backend", BACKEND]
    with pytest.raises(SystemExit):
        main([*words, "--output", str(tmp_path)])
    assert "needs a --teacher" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--student", "resnet8", "--epochs", "0"],
        ["train", "--student", "resnet8", "--learning-rate", "nan"],
        ["train", "--student", "resnet8", "--validation", "1"],
        ["train", "--student", "resnet8", "--method", "unheard-of"],
        ["train"],
        ["compare", "--student", "resnet8", "--methods", "kd", "--seeds", "0"],
    ],
)
def test_numbers_out_of_range_and_names_that_are_none_are_refused(words, capsys):
    with pytest.raises(SystemExit) as exit:
        main(words)
    assert exit.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_the_device_has_a_name():
    name, memory = backend.device_info()
    assert isinstance(name, str) and name
    assert memory is None or memory > 0


@pytest.mark.parametrize("command", ["train", "export"])
def test_a_backend_that_is_not_installed_is_told(command, monkeypatch, refused):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    other = next(name for name in ("torch", "jax") if name != BACKEND)
    words = {"train": ["--student", "resnet8"], "export": ["somewhere"]}[command]
    error = refused([command, *words, "--backend", other])
    assert f"--backend {other}: it is not installed" in error


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
@pytest.mark.parametrize("name, more", [("train", "goes on"), ("report", "")])
def test_ctrl_c_is_one_sentence_of_which_the_process_dies(name, more):
    """So that a script that called it does not go on."""
    program = """
        import sys
        from keras_dtkd.cli import command

        def interrupted(args):
            raise KeyboardInterrupt

        command.COMMANDS[sys.argv[1]].run = interrupted
        sys.exit(command.main(sys.argv[1:]))
    """
    words = {"train": ["--student", "resnet8"], "report": ["."]}[name]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), name, *words],
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGINT
    assert f"keras-dtkd {name}: interrupted." in done.stderr
    assert ("The same command goes on" in done.stderr) == bool(more)
    assert "Traceback" not in done.stderr
