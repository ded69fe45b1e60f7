"""What is missing is trained, in processes of their own; what fails stops nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from keras_dtkd.cli import compare as command
from keras_dtkd.cli import main
from keras_dtkd.cli.errors import UserError
from keras_dtkd.cli.run_dir import alone
from tests.cli.conftest import BACKEND, TINY, folder

pytest.importorskip("rich")


def compare(output, teacher, *methods, seeds=1):
    options = ["--teacher", "resnet8", "--teacher-weights", str(teacher)]
    options += ["--student", "resnet8", "--epochs", "1", "--output", str(output)]
    return [
        *("compare", *TINY, *options, "--backends", BACKEND),
        *("--seeds", str(seeds), "--methods", *methods),
    ]


def test_what_is_missing_is_trained_and_what_fails_is_told(teacher, tmp_path, capsys):
    """A run that is there, one that cannot be written, one that is trained."""
    made = ["train", *TINY, "--student", "resnet8", "--teacher", "resnet8"]
    made += ["--method", "ce", "--epochs", "1", "--output", str(tmp_path)]
    assert main([*made, "--verbose", "0"]) == 0
    before = (folder(tmp_path, "ce") / "run.json").read_bytes()
    # Whatever is wrong with it.
    broken = folder(tmp_path, "kd")
    broken.mkdir(parents=True)
    (broken / "log.csv").mkdir()
    capsys.readouterr()

    assert main(compare(tmp_path, teacher, "ce", "kd", "dtkd")) == 1
    shown = capsys.readouterr().out
    assert "1 of 3 runs are finished" in shown
    assert f"1/2 kd {BACKEND} seed 0: failed" in shown
    assert f"2/2 dtkd {BACKEND} seed 0: test accuracy" in shown
    assert (folder(tmp_path, "ce") / "run.json").read_bytes() == before
    failed = json.loads((broken / "run.json").read_text())
    assert failed["status"] == "failed" and "log.csv" in " ".join(failed["error"])

    study = tmp_path / "digits" / "resnet8-resnet8"
    made = json.loads((study / "report.json").read_text())
    rows = {row["method"]: row for row in made["rows"]}
    assert list(rows) == ["ce", "kd", "dtkd"]
    assert rows["kd"]["missing"] == [{"seed": 0, "status": "failed"}]
    assert rows["ce"]["seeds"] == rows["dtkd"]["seeds"] == [0]

    written = {n: (study / f"report.{n}").read_bytes() for n in ("json", "md", "png")}
    assert main(["report", str(study)]) == 0
    for name in ("json", "md"):
        assert (study / f"report.{name}").read_bytes() == written[name]


def test_nothing_starts_without_a_teacher(tmp_path, refused):
    command = ["compare", *TINY, "--student", "resnet8", "--methods", "ce", "kd"]
    assert "needs a --teacher" in refused([*command, "--output", tmp_path])
    assert not list(tmp_path.iterdir())


def test_runs_of_other_settings_are_in_the_way(teacher, tmp_path, refused):
    planned = folder(tmp_path, "kd")
    planned.mkdir(parents=True)
    (planned / "run.json").write_text(
        json.dumps({"status": "finished", "settings": {}, "recipe": {}})
    )
    error = refused(compare(tmp_path, teacher, "kd"))
    assert "other settings" in error and "epochs None, now 1" in error


def test_what_was_only_planned_is_in_nobodys_way(teacher, tmp_path):
    """Such as a comparison of mistyped settings that was broken off."""
    planned = folder(tmp_path, "kd")
    planned.mkdir(parents=True)
    (planned / "run.json").write_text(
        json.dumps({"status": "planned", "settings": {"epochs": 240}, "recipe": {}})
    )
    assert main(compare(tmp_path, teacher, "kd")) == 0
    run = json.loads((planned / "run.json").read_text())
    assert run["status"] == "finished" and run["settings"]["epochs"] == 1


def test_what_another_comparison_trained_there_is_not_ours(
    teacher, tmp_path, capsys, monkeypatch
):
    """Of other settings, in the folder that was only planned."""
    path = folder(tmp_path, "kd") / "run.json"
    another = {"status": "finished", "settings": {"epochs": 240}, "recipe": {}}

    class Elsewhere(subprocess.Popen):
        def __init__(self, command, **options):
            path.write_text(json.dumps(another))
            super().__init__([sys.executable, "-c", "raise SystemExit(2)"], **options)

    monkeypatch.setattr(command.subprocess, "Popen", Elsewhere)
    # Nor is such a run averaged with ours.
    monkeypatch.setattr(command.report, "report", lambda folder: {})
    monkeypatch.setattr(command.report, "show", lambda made, folder: None)
    assert main(compare(tmp_path, teacher, "kd")) == 1
    assert "holds a run with other settings" in capsys.readouterr().out
    assert json.loads(path.read_text()) == another


def test_a_table_that_cannot_be_written_is_no_refusal(teacher, tmp_path, capsys):
    (tmp_path / "digits" / "resnet8-resnet8" / "report.md").mkdir(parents=True)
    assert main(compare(tmp_path, teacher, "ce")) == 1
    shown = capsys.readouterr()
    assert "1/1 ce" in shown.out and "cannot be written there" in shown.err


def test_a_folder_that_cannot_be_written_to_is_told(teacher, tmp_path, refused):
    path = folder(tmp_path, "kd")
    path.parent.mkdir(parents=True)
    path.write_text("a file")
    error = refused(compare(tmp_path, teacher, "kd"))
    assert f"{path} cannot be written to" in error


posix = pytest.mark.skipif(os.name != "posix", reason="locks and signals are POSIX's")


def is_free(path):
    try:
        with alone(path):
            return True
    except UserError:
        return False


@posix
def test_a_run_dies_with_the_comparison(tmp_path):
    """Killed, so that it can do nothing about it."""
    words = ["compare", *TINY, "--student", "resnet8", "--methods", "ce"]
    words += ["--seeds", "1", "--epochs", "2000", "--output", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "keras_dtkd.cli", *words], stdout=subprocess.DEVNULL
    )
    path = folder(tmp_path, "ce", pair="resnet8")

    def status():
        return json.loads((path / "run.json").read_text())["status"]

    try:
        while not (path / "run.json").exists() or status() != "running":
            assert process.poll() is None
            time.sleep(0.05)
        assert not is_free(path)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    until = time.monotonic() + 30
    while not is_free(path) and time.monotonic() < until:
        time.sleep(0.05)
    assert is_free(path) and status() == "running"


@pytest.fixture
def trained_elsewhere(teacher, tmp_path):
    """The folder of a run that is nearly done; told so by `end`."""
    path = folder(tmp_path, "ce", pair="resnet8")
    shutil.copytree(teacher, path)
    finished = json.loads((path / "run.json").read_text())

    def write(status):
        (path / "run.json").write_text(json.dumps({**finished, "status": status}))

    write("running")
    words = ["compare", *TINY, "--student", "resnet8", "--methods", "ce"]
    words += ["--seeds", "1", "--epochs", "1", "--output", str(tmp_path)]
    return path, write, words


@posix
def test_a_run_that_another_process_trains_is_waited_for(trained_elsewhere, capsys):
    path, write, words = trained_elsewhere
    began = threading.Event()

    def train():
        with alone(path):
            began.set()
            time.sleep(0.5)
            write("finished")

    other = threading.Thread(target=train)
    other.start()
    began.wait()
    assert main(words) == 0
    other.join()
    shown = capsys.readouterr().out
    assert f"1/1 ce {BACKEND} seed 0: another process trains it, waiting" in shown
    assert f"1/1 ce {BACKEND} seed 0: test accuracy" in shown


@posix
def test_a_run_that_another_process_trains_is_never_called_failed(
    trained_elsewhere, capsys, monkeypatch
):
    """It began between our look and our start."""
    path, _, words = trained_elsewhere
    monkeypatch.setattr(command, "_waited", lambda *args: False)
    monkeypatch.setattr(command.sys, "executable", shutil.which("false"))
    before = (path / "run.json").read_bytes()
    with alone(path):
        assert main(words) == 1
    assert "another process trains this run" in capsys.readouterr().out
    assert (path / "run.json").read_bytes() == before
