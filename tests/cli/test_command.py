"""From words to a command, on the backend that was asked for."""

import os
import subprocess
import sys

import keras
import pytest

from keras_dtkd import backend
from keras_dtkd.cli import command, main

BACKEND = keras.backend.backend()


@pytest.mark.skipif(os.name != "posix", reason="elsewhere it is a child")
def test_another_backend_is_the_same_command_again_in_this_process(monkeypatch):
    called = []
    monkeypatch.setattr(os, "execve", lambda *args: called.append(args))
    monkeypatch.setattr(subprocess, "call", lambda *args, **kwargs: 0)
    other = "torch" if BACKEND == "jax" else "jax"
    words = ["train", "--student", "resnet8", "--method", "ce", "--backend", other]
    command._elsewhere(other, words)
    (path, argv, environment), *_ = called
    assert path == sys.executable
    assert argv == [sys.executable, "-m", "keras_dtkd.cli", *words]
    assert environment["KERAS_BACKEND"] == other
    assert environment.keys() >= os.environ.keys()


def test_the_running_backend_needs_no_other_process(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(command, "_elsewhere", pytest.fail)
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
    name, memory = backend.device()
    assert isinstance(name, str) and name
    assert memory is None or memory > 0
