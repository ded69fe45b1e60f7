"""`compare` trains missing runs in processes of their own; a failure stops no other."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from keras_dtkd.cli import compare, main
from keras_dtkd.cli.errors import UserError
from keras_dtkd.cli.run_dir import lock
from tests.cli.conftest import BACKEND, TINY, run_folder
from tests.cli.fake_runs import make_run

pytest.importorskip("rich")


def compare_argv(output, teacher, *methods):
    options = ["--teacher", "resnet8", "--teacher-weights", str(teacher)]
    options += ["--student", "resnet8", "--epochs", "1", "--output", str(output)]
    return [
        *("compare", *TINY, *options, "--backends", BACKEND),
        *("--seeds", "1", "--methods", *methods),
    ]


def without_teacher_argv(output, epochs):
    argv = ["compare", *TINY, "--student", "resnet8", "--methods", "ce"]
    return [*argv, "--seeds", "1", "--epochs", str(epochs), "--output", str(output)]


def test_missing_runs_are_trained_and_failures_are_reported(
    teacher, tmp_path, capsys, in_process
):
    """A finished run, one that cannot be written, one that is trained."""
    finished = run_folder(tmp_path, "ce")
    shutil.copytree(teacher, finished)
    before = (finished / "run.json").read_bytes()
    # Any cause of failure.
    broken = run_folder(tmp_path, "kd")
    (broken / "log.csv").mkdir(parents=True)

    assert main(compare_argv(tmp_path, teacher, "ce", "kd", "dtkd")) == 1
    printed = capsys.readouterr().out
    assert "1 of 3 runs are finished" in printed
    assert f"1/2 kd {BACKEND} seed 0: failed" in printed
    assert f"2/2 dtkd {BACKEND} seed 0: test accuracy" in printed
    assert (finished / "run.json").read_bytes() == before
    failed = json.loads((broken / "run.json").read_text())
    assert failed["status"] == "failed" and "log.csv" in " ".join(failed["error"])

    study = tmp_path / "digits" / "resnet8-resnet8"
    table = json.loads((study / "report.json").read_text())
    rows = {row["method"]: row for row in table["rows"]}
    assert list(rows) == ["ce", "kd", "dtkd"]
    assert rows["kd"]["missing"] == [{"seed": 0, "status": "failed"}]
    assert rows["ce"]["seeds"] == rows["dtkd"]["seeds"] == [0]

    written = {n: (study / f"report.{n}").read_bytes() for n in ("json", "md", "png")}
    assert main(["report", str(study)]) == 0
    for name in ("json", "md"):
        assert (study / f"report.{name}").read_bytes() == written[name]


def test_nothing_starts_without_a_teacher(tmp_path, user_error):
    argv = ["compare", *TINY, "--student", "resnet8", "--methods", "ce", "kd"]
    assert "needs a --teacher" in user_error([*argv, "--output", tmp_path])
    assert not list(tmp_path.iterdir())


def write_run(folder, **options):
    """A sound run.json in a folder, of other settings than those of the tests."""
    folder.mkdir(parents=True, exist_ok=True)
    run = make_run(**options)
    (folder / "run.json").write_text(json.dumps(run))
    return run


def test_runs_with_other_settings_are_a_user_error(teacher, tmp_path, user_error):
    write_run(run_folder(tmp_path, "kd"))
    error = user_error(compare_argv(tmp_path, teacher, "kd"))
    assert "other settings" in error and "epochs 4, now 1" in error


def test_a_run_that_another_process_begins_with_other_settings_is_a_user_error(
    teacher, tmp_path, user_error
):
    folder = run_folder(tmp_path, "kd")
    write_run(folder, status="running", epochs_done=0)
    with lock(folder):
        error = user_error(compare_argv(tmp_path, teacher, "kd"))
    assert "other settings" in error and "epochs 4, now 1" in error


def test_planned_runs_with_other_settings_are_replaced(teacher, tmp_path, in_process):
    """For example those of an interrupted comparison with a typing error."""
    planned = run_folder(tmp_path, "kd")
    write_run(planned, status="planned", epochs=240)
    assert main(compare_argv(tmp_path, teacher, "kd")) == 0
    run = json.loads((planned / "run.json").read_text())
    assert run["status"] == "finished" and run["settings"]["epochs"] == 1


def test_result_of_another_comparison_is_not_taken_over(
    teacher, tmp_path, capsys, monkeypatch
):
    """With other settings, in a folder that was only planned."""
    folder = run_folder(tmp_path, "kd")
    other = make_run(epochs=240)

    class OtherComparison(subprocess.Popen):
        def __init__(self, command, **options):
            write_run(folder, epochs=240)
            super().__init__([sys.executable, "-c", "raise SystemExit(2)"], **options)

    monkeypatch.setattr(compare.subprocess, "Popen", OtherComparison)
    # Such a run cannot be averaged with the others either.
    monkeypatch.setattr(compare.report, "write_report", lambda folder: None)
    assert main(compare_argv(tmp_path, teacher, "kd")) == 1
    assert "holds a run with other settings" in capsys.readouterr().out
    assert json.loads((folder / "run.json").read_text()) == other


def test_unwritable_table_gives_exit_code_1(teacher, tmp_path, capsys, in_process):
    (tmp_path / "digits" / "resnet8-resnet8" / "report.md").mkdir(parents=True)
    assert main(compare_argv(tmp_path, teacher, "ce")) == 1
    printed = capsys.readouterr()
    assert "1/1 ce" in printed.out and "cannot be written" in printed.err


def test_unwritable_run_folder_is_a_user_error(teacher, tmp_path, user_error):
    path = run_folder(tmp_path, "kd")
    path.parent.mkdir(parents=True)
    path.write_text("a file")
    error = user_error(compare_argv(tmp_path, teacher, "kd"))
    assert f"{path} cannot be written to" in error


def is_unlocked(folder):
    try:
        with lock(folder):
            return True
    except UserError:
        return False


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_run_ends_when_the_comparison_is_killed(tmp_path):
    """And leaves its folder unlocked."""
    argv = without_teacher_argv(tmp_path, epochs=2000)
    process = subprocess.Popen(
        [sys.executable, "-m", "keras_dtkd.cli", *argv], stdout=subprocess.DEVNULL
    )
    folder = run_folder(tmp_path, "ce", pair="resnet8")

    def status():
        path = folder / "run.json"
        return json.loads(path.read_text())["status"] if path.exists() else None

    try:
        while status() != "running":
            assert process.poll() is None
            time.sleep(0.05)
        assert not is_unlocked(folder)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + 30
    while not is_unlocked(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert is_unlocked(folder) and status() == "running"


@pytest.fixture
def running_elsewhere(teacher, tmp_path):
    """The folder of a run whose status another process sets."""
    folder = run_folder(tmp_path, "ce", pair="resnet8")
    shutil.copytree(teacher, folder)
    content = json.loads((folder / "run.json").read_text())

    def set_status(status):
        run = json.dumps({**content, "status": status})
        (folder / "run.json").write_text(run)

    set_status("running")
    return folder, set_status


def test_compare_waits_for_a_run_of_another_process(
    running_elsewhere, tmp_path, capsys
):
    folder, set_status = running_elsewhere
    is_locked = threading.Event()

    def train():
        with lock(folder):
            is_locked.set()
            time.sleep(0.5)
            set_status("finished")

    other = threading.Thread(target=train)
    other.start()
    is_locked.wait()
    assert main(without_teacher_argv(tmp_path, epochs=1)) == 0
    other.join()
    printed = capsys.readouterr().out
    assert f"1/1 ce {BACKEND} seed 0: another process trains it, waiting" in printed
    assert f"1/1 ce {BACKEND} seed 0: test accuracy" in printed


def test_locked_run_is_not_recorded_as_failed(
    running_elsewhere, tmp_path, capsys, monkeypatch
):
    """Another process started it after the check."""
    folder, _ = running_elsewhere
    monkeypatch.setattr(compare, "_wait_for_lock", lambda *args: False)
    monkeypatch.setattr(compare, "_train_in_subprocess", failing_process)
    before = (folder / "run.json").read_bytes()
    with lock(folder):
        assert main(without_teacher_argv(tmp_path, epochs=1)) == 1
    assert "another process trains this run" in capsys.readouterr().out
    assert (folder / "run.json").read_bytes() == before


def failing_process(plan, *args):
    (plan.folder / compare.OUTPUT_FILE).touch()
    return 1
