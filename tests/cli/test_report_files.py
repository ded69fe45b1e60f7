"""What a report writes and shows: files, one picture, and what is refused."""

import json
import sys

import numpy as np
import pytest

from keras_dtkd.cli import main
from tests.cli.fake_runs import plant, report

pytest.importorskip("rich")


def test_there_is_one_picture(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    plant(tmp_path / "again", "kd")
    plant(tmp_path, "kd", seed=1, session={"device": "NVIDIA H100"})
    for method in ("kd", "dtkd"):
        plant(tmp_path, method)
    plant(tmp_path, "kd", "torch", status="failed")
    report(tmp_path, capsys)
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")


def test_as_json_the_table_is_printed_and_nothing_is_written(tmp_path, capsys):
    plant(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main(["report", str(tmp_path), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert sorted(tmp_path.rglob("*")) == before
    assert printed == report(tmp_path, capsys)


@pytest.mark.parametrize("without", ["finished runs", "matplotlib"])
def test_no_picture_of_another_table_is_left(without, tmp_path, capsys, monkeypatch):
    status = "failed" if without == "finished runs" else "finished"
    plant(tmp_path, status=status)
    if without == "matplotlib":
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    (tmp_path / "report.png").write_bytes(b"of another table")
    report(tmp_path, capsys)
    assert not (tmp_path / "report.png").exists()
    shown = capsys.readouterr().out.splitlines()
    assert shown[-1] == f"{tmp_path}: report.md, report.json"


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path, refused):
    plant(tmp_path)
    (tmp_path / "report.md").mkdir()
    error = refused(["report", tmp_path])
    assert "the table cannot be written there" in error and "--json" in error


def test_the_picture_has_a_point_for_each_row_and_epoch(tmp_path):
    pytest.importorskip("matplotlib")
    from keras_dtkd.cli import plot, run_dir, table

    values = [plant(tmp_path, m, seed=s) for m in ("kd", "dtkd") for s in (0, 1)]
    runs = [run_dir.read(path.parent) for path in sorted(tmp_path.rglob("run.json"))]
    figure = plot.draw(table.make(runs), runs)
    left, right = figure.axes
    bars = [bar.get_children()[0].get_xdata()[0] for bar in left.containers]
    pairs = [values[2:], values[:2]]
    expected = [
        100 * np.mean([v[-1] if which == "last" else v.max() for v in pair])
        for pair in pairs
        for which in ("last", "best")
    ]
    assert bars == pytest.approx(expected)
    assert [text.get_text() for text in left.get_yticklabels()] == [
        "dtkd jax",
        "kd jax",
    ]
    assert right.get_title() == "Test accuracy by epoch: mean ± std of 2 seeds"


def test_a_folder_without_runs_is_refused(tmp_path, refused):
    assert "no run.json lies there" in refused(["report", tmp_path])


@pytest.mark.parametrize("text", ["<<<<<<< HEAD", "[]", '{"status": "finished"}'])
def test_what_is_no_run_is_refused_by_name(text, tmp_path, refused):
    plant(tmp_path)
    (tmp_path / "other").mkdir()
    path = tmp_path / "other" / "run.json"
    path.write_text(text)
    error = refused(["report", tmp_path])
    assert error.startswith(f"keras-dtkd report: {path} is ")
    assert error.count("\n") == 1


def test_a_row_of_the_picture_names_the_settings_that_vary(tmp_path):
    pytest.importorskip("matplotlib")
    from keras_dtkd.cli import plot, run_dir, table

    plant(tmp_path, "dtkd", warmup=None, train_size=96)
    plant(tmp_path, "dtkd", warmup=96, train_size=None)
    runs = [run_dir.read(path.parent) for path in sorted(tmp_path.rglob("run.json"))]
    left, right = plot.draw(table.make(runs), runs).axes
    names = {text.get_text() for text in left.get_yticklabels()}
    assert names == {"dtkd jax, warmup 96", "dtkd jax, train size 96"}


@pytest.mark.parametrize("columns", [None, "60"])
def test_rows_are_broken_where_the_terminal_ends_alone(
    columns, tmp_path, capsys, monkeypatch
):
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    plant(tmp_path, "dtkd_centered_weight")
    plant(tmp_path, "dtkd_centered_weight", warmup=5, train_size=96)
    assert main(["report", str(tmp_path)]) == 0
    rows = capsys.readouterr().out.split("- best")[0]
    assert ("dtkd_centered_weight" in rows) == (columns is None)


def test_the_table_is_shown(tmp_path, capsys):
    plant(tmp_path)
    assert main(["report", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "kd" in shown and "78,426" in shown and "report.md" in shown
