"""Files that are whole, or not there."""

import threading

import pytest

from keras_dtkd.core import atomic_io


def test_writers_of_one_file_do_not_meet(tmp_path):
    path, errors = tmp_path / "run.json", []

    def write(text):
        try:
            for _ in range(100):
                atomic_io.atomic_write(path, lambda p: p.write_text(5000 * text))
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(text,)) for text in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert path.read_text() in (5000 * "a", 5000 * "b")
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_that_fails_leaves_the_file_and_nothing_else(tmp_path):
    path = tmp_path / "new" / "run.json"
    atomic_io.atomic_write(path, lambda p: p.write_text("before"))

    def half(unfinished):
        unfinished.write_text("half")
        raise SystemError("disk full")

    with pytest.raises(SystemError):
        atomic_io.atomic_write(path, half)
    assert path.read_text() == "before"
    assert list(path.parent.iterdir()) == [path]


def test_the_suffix_is_that_of_the_file(tmp_path):
    seen = []
    atomic_io.atomic_write(
        tmp_path / "a.weights.h5", lambda p: seen.append(p.name) or p.write_text("")
    )
    assert seen[0].endswith(".weights.h5") and seen[0] != "a.weights.h5"


def test_a_file_is_synced_while_open_for_writing(tmp_path, monkeypatch):
    """As Windows wants it."""
    modes = []

    def fsync(descriptor):
        import os

        modes.append(os.write(descriptor, b""))

    monkeypatch.setattr(atomic_io.os, "fsync", fsync)
    atomic_io.atomic_write(tmp_path / "a", lambda p: p.write_text("whole"))
    assert modes == [0]


def test_partial_files_of_killed_writers_are_removed(tmp_path):
    (tmp_path / "unfinished-0123-run.json").write_text("half")
    (tmp_path / "run.json").write_text("whole")
    atomic_io.remove_partial_files(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
