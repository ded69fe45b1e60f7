"""Runs that several tests look at, each trained once."""

from types import SimpleNamespace

import keras
import pytest

pytest.importorskip("tensorflow", reason="the images are read by TensorFlow")
pytest.importorskip("sklearn", reason="the digits come with scikit-learn")

from keras_dtkd.cli import main  # noqa: E402

BACKEND = keras.backend.backend()
TINY = ["--data", "digits", "--batch-size", "32", "--train-size", "96"]


def words(*changes, method="kd", teacher=None, output):
    """Of a tiny run."""
    found = ["train", *TINY, "--student", "resnet8", "--method", method]
    if teacher is not None:
        found += ["--teacher", "resnet8", "--teacher-weights", str(teacher)]
    return [*found, "--output", str(output), "--verbose", "0", *map(str, changes)]


def folder(output, method, seed=0, pair="resnet8-resnet8"):
    return output / "digits" / pair / method / f"{BACKEND}-seed{seed}"


@pytest.fixture(scope="session")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def teacher(output):
    """The folder of a finished run of the student alone."""
    assert main(words("--epochs", 1, method="ce", output=output)) == 0
    return folder(output, "ce", pair="resnet8")


@pytest.fixture(scope="session")
def distilled(output, teacher):
    """A finished run with validation images, and the words that made it."""
    told = words("--epochs", 3, "--validation", 0.1, teacher=teacher, output=output)
    assert main(told) == 0
    return SimpleNamespace(folder=folder(output, "kd"), words=told)


@pytest.fixture
def refused(capsys):
    """What a command says that starts nothing."""

    def of(argv):
        with pytest.raises(SystemExit) as exit:
            main([str(word) for word in argv])
        assert exit.value.code == 2
        return capsys.readouterr().err

    return of
