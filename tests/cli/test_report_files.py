"""The files and the output of `report`, and its user errors."""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_dtkd import recipes
from keras_dtkd.cli import main, options, run_config, run_dir, table
from keras_dtkd.cli.report import plot_table
from tests.cli.fake_runs import read_runs, report, write_run

pytest.importorskip("rich")


def figure_of(folder):
    runs = read_runs(folder)
    return plot_table(table.build_table(runs), runs)


def test_report_writes_a_figure(tmp_path):
    pytest.importorskip("matplotlib")
    write_run(tmp_path / "again", "kd")
    write_run(tmp_path, "kd", seed=1, session={"device": "NVIDIA H100"})
    for method in ("kd", "dtkd"):
        write_run(tmp_path, method)
    write_run(tmp_path, "kd", "torch", status="failed")
    report(tmp_path)
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")


def test_json_option_prints_the_table_and_writes_nothing(tmp_path, capsys):
    write_run(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main(["report", str(tmp_path), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert sorted(tmp_path.rglob("*")) == before
    assert printed == report(tmp_path)


@pytest.mark.parametrize("without", ["finished runs", "matplotlib"])
def test_outdated_figure_is_removed(without, tmp_path, capsys, monkeypatch):
    status = "failed" if without == "finished runs" else "finished"
    write_run(tmp_path, status=status)
    if without == "matplotlib":
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    (tmp_path / "report.png").write_bytes(b"outdated")
    report(tmp_path)
    assert not (tmp_path / "report.png").exists()
    shown = capsys.readouterr().out.splitlines()
    assert shown[-1] == f"{tmp_path}: report.md, report.json"


def test_unwritable_folder_is_a_user_error(tmp_path, user_error):
    write_run(tmp_path)
    (tmp_path / "report.md").mkdir()
    error = user_error(["report", tmp_path])
    assert "the table cannot be written" in error and "--json" in error


def test_figure_has_a_point_for_each_row_and_epoch(tmp_path):
    pytest.importorskip("matplotlib")
    values = [write_run(tmp_path, m, seed=s) for m in ("kd", "dtkd") for s in (0, 1)]
    left, right = figure_of(tmp_path).axes
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


def test_folder_without_runs_is_a_user_error(tmp_path, user_error):
    assert "no run.json in this folder" in user_error(["report", tmp_path])


@pytest.mark.parametrize("text", ["<<<<<<< HEAD", "[]", '{"status": "finished"}'])
def test_invalid_run_json_is_named(text, tmp_path, user_error):
    write_run(tmp_path)
    (tmp_path / "other").mkdir()
    path = tmp_path / "other" / "run.json"
    path.write_text(text)
    error = user_error(["report", tmp_path])
    assert error.startswith(f"keras-dtkd report: {path} is ")
    assert error.count("\n") == 1


def test_figure_labels_have_the_varying_settings(tmp_path):
    pytest.importorskip("matplotlib")
    write_run(tmp_path, "dtkd", warmup=None, train_size=96)
    write_run(tmp_path, "dtkd", warmup=96, train_size=None)
    left, right = figure_of(tmp_path).axes
    names = {text.get_text() for text in left.get_yticklabels()}
    assert names == {"dtkd jax, warmup 96", "dtkd jax, train size 96"}


@pytest.mark.parametrize("columns", [None, "60"])
def test_rows_are_broken_only_in_a_narrow_terminal(
    columns, tmp_path, capsys, monkeypatch
):
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    write_run(tmp_path, "dtkd_centered_weight")
    write_run(tmp_path, "dtkd_centered_weight", warmup=5, train_size=96)
    assert main(["report", str(tmp_path)]) == 0
    rows = capsys.readouterr().out.split("- best")[0]
    assert ("dtkd_centered_weight" in rows) == (columns is None)


def test_table_is_printed(tmp_path, capsys):
    write_run(tmp_path)
    assert main(["report", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "kd" in shown and "78,426" in shown and "report.md" in shown


STUDIES = Path(__file__).parents[2] / "benchmarks" / "cifar100"


@pytest.mark.skipif(not STUDIES.exists(), reason="part of the source tree only")
@pytest.mark.parametrize("study", ["study", "backends"])
def test_published_tables_are_reproduced(study, capsys):
    folder = STUDIES / study
    assert main(["report", str(folder), "--json"]) == 0
    printed = capsys.readouterr().out
    assert printed == (folder / "report.json").read_text(encoding="utf-8")
    markdown = table.to_markdown(json.loads(printed))
    assert markdown == (folder / "report.md").read_text(encoding="utf-8")


@pytest.mark.skipif(not STUDIES.exists(), reason="part of the source tree only")
def test_published_runs_are_continued():
    """Their settings and recipes, under older names, are those of the same command."""
    run = run_dir.read_run(STUDIES / "study" / "warm" / "ce" / "tensorflow-seed0")
    parser = argparse.ArgumentParser()
    options.add_arguments(parser)
    argv = "--student resnet8 --epochs 15 --train-size 10000 --validation 0.04"
    args = parser.parse_args([*argv.split(), "--augmentations-per-image", "4"])
    plan = run_config.plan_run(args, "ce", "tensorflow", seed=0)
    assert plan.diff(run) == []
    assert recipes.Recipe.from_dict(run["recipe"]).lr_decay_factor == 0.1
