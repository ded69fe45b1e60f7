"""A full disk, a read-only folder, a path that is a file: a sentence, nothing lost."""

import errno
import os

import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.callbacks import Resume
from keras_dtkd.core import atomic_io
from keras_dtkd.losses import KD
from keras_dtkd.teachers import store
from tests.tiny_models import data, student, teacher

pytestmark = pytest.mark.invariant(number=10)

X, Y = data(32)


def fit(folder, epochs=2):
    resume = Resume(folder)
    d = Distiller(teacher(), student(), KD())
    options = {"epochs": epochs, "initial_epoch": resume.epoch, "callbacks": [resume]}
    d.fit(X, Y, shuffle=False, verbose=0, **options)
    return d


def run(what, folder):
    store(teacher(), X, folder, verbose=0) if what == "store" else fit(folder)


@pytest.fixture
def full_disk(monkeypatch):
    def fill():
        def fsync(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        monkeypatch.setattr(atomic_io, "fsync", fsync)

    return fill


@pytest.mark.parametrize("what", ["store", "resume"])
def test_a_path_that_is_a_file(tmp_path, what):
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(OSError, match="file.* cannot be written: .*another folder"):
        run(what, path)
    assert path.read_text() == "mine"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write.")
@pytest.mark.parametrize("what", ["store", "resume"])
def test_a_folder_that_is_read_only(tmp_path, what):
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o500)
    with pytest.raises(OSError, match="cannot be written: Permission denied"):
        run(what, folder)


def test_a_full_disk_while_storing(tmp_path, full_disk, monkeypatch):
    full_disk()
    with pytest.raises(OSError, match="cannot be written: No space left on device"):
        run("store", tmp_path / "stored")
    monkeypatch.undo()
    assert store(teacher(), X, tmp_path / "stored", verbose=0).num_samples == 32


def test_a_full_disk_while_training(tmp_path, full_disk, monkeypatch):
    fit(tmp_path, epochs=1)
    full_disk()
    with pytest.raises(OSError, match="2.weights.h5 cannot be written: No space"):
        fit(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["1.weights.h5"]
    monkeypatch.undo()
    once, again = fit(tmp_path), fit(tmp_path.parent / "whole")
    weights = (d.student.get_weights() for d in (once, again))
    assert all(map(np.array_equal, *weights))
