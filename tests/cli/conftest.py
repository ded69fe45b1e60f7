"""Runs that several tests inspect, each trained once."""

import contextlib
import json
import traceback
from types import SimpleNamespace

import keras
import pytest

pytest.importorskip("tensorflow", reason="the images are loaded by TensorFlow")
pytest.importorskip("sklearn", reason="the digits are part of scikit-learn")
pytest.importorskip("filelock", reason="the folders of runs are locked")

from keras_dtkd.cli import compare, main  # noqa: E402

BACKEND = keras.backend.backend()
TINY = ["--data", "digits", "--batch-size", "32", "--train-size", "96"]


def train_argv(*options, method="kd", teacher=None, output):
    """The command line of a tiny run."""
    argv = ["train", *TINY, "--student", "resnet8", "--method", method]
    if teacher is not None:
        argv += ["--teacher", "resnet8", "--teacher-weights", str(teacher)]
    return [*argv, "--output", str(output), "--verbose", "0", *map(str, options)]


def run_folder(output, method, seed=0, pair="resnet8-resnet8"):
    return output / "digits" / pair / method / f"{BACKEND}-seed{seed}"


def read_run(path):
    return json.loads((path / "run.json").read_text())


def with_output(argv, output):
    index = argv.index("--output") + 1
    return [*argv[:index], str(output), *argv[index + 1 :]]


@pytest.fixture(scope="session")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def teacher(output):
    """The folder of a finished run without a teacher."""
    assert main(train_argv("--epochs", 1, method="ce", output=output)) == 0
    return run_folder(output, "ce", pair="resnet8")


@pytest.fixture(scope="session")
def distilled(output, teacher):
    """A finished run with validation images, and its command line."""
    options = ("--epochs", 3, "--validation", 0.1)
    argv = train_argv(*options, teacher=teacher, output=output)
    assert main(argv) == 0
    return SimpleNamespace(folder=run_folder(output, "kd"), argv=argv)


@pytest.fixture
def user_error(capsys):
    """The message of a command that starts nothing."""

    def run(argv):
        with pytest.raises(SystemExit) as exit:
            main([str(argument) for argument in argv])
        assert exit.value.code == 2
        return capsys.readouterr().err

    return run


class InProcess:
    """`subprocess.Popen` for `keras-dtkd train`, in this process."""

    def __init__(self, command, stdout, **options):
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stdout):
            try:
                self.returncode = main(command[command.index("train") :])
            except SystemExit as exit:
                self.returncode = exit.code
            except Exception:
                traceback.print_exc(file=stdout)
                self.returncode = 1

    def poll(self):
        return self.returncode

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


@pytest.fixture
def in_process(monkeypatch):
    """`compare` trains in this process: a new one imports for seconds."""
    monkeypatch.setattr(compare.subprocess, "Popen", InProcess)
