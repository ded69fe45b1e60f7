"""The lessons run, and their notebooks say the same."""

import json
import shutil

import keras
import numpy as np
import pytest

from tests.scripts import EXAMPLES, ROOT, SMOKE_RUN, run, started


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    """What a smoke run prints, and the folder it leaves."""
    pytest.importorskip("sklearn", reason="The quickstart needs scikit-learn's digits.")
    pytest.importorskip("matplotlib", reason="The quickstart draws with matplotlib.")
    folder = tmp_path_factory.mktemp("quickstart") / "made"
    printed = run(
        EXAMPLES / "quickstart.py",
        KERAS_DTKD_OUT=str(folder),
        **SMOKE_RUN,
    )
    return printed, folder


def test_the_quickstart_says_that_a_smoke_run_is_one(quickstart):
    printed, _ = quickstart
    assert "SMOKE RUN" in printed


@pytest.mark.parametrize(
    "row",
    ["teacher", "student alone", "KD", "CE + 4 KD", "DTKD", "DTKD, published"],
)
def test_its_table_has_every_row(quickstart, row):
    table = quickstart[0].partition("accuracy %")[2].splitlines()
    assert any(line[:16].rstrip() == row for line in table)


def test_it_draws_the_picture(quickstart):
    picture = quickstart[1] / "quickstart.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 20_000


def test_its_student_loads_and_reads_digits(quickstart):
    from sklearn.datasets import load_digits

    student = keras.models.load_model(quickstart[1] / "student.keras")
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1).astype("float32") / 16
    choice = keras.ops.convert_to_numpy(student(images)).argmax(-1)
    # Chance is 0.1; six epochs give about 0.9.
    assert np.mean(choice == labels) > 0.6


def test_it_leaves_nothing_else(quickstart):
    names = sorted(path.name for path in quickstart[1].iterdir())
    assert names == ["quickstart.png", "student.keras"]


@pytest.fixture(scope="module")
def own_loss(tmp_path_factory):
    """What a smoke run prints, and the folder it leaves."""
    pytest.importorskip("sklearn", reason="The lesson needs scikit-learn's digits.")
    folder = tmp_path_factory.mktemp("own_loss") / "made"
    script = EXAMPLES / "own_loss.py"
    return run(script, KERAS_DTKD_OUT=str(folder), **SMOKE_RUN), folder


@pytest.mark.parametrize(
    "row",
    ["student alone", "KD", "KD, Certainty", "Hellinger", "Hellinger, Certainty"],
)
def test_own_loss_has_every_row_in_its_table(own_loss, row):
    table = own_loss[0].partition("accuracy %")[2].splitlines()
    (line,) = [line for line in table if line[:22].rstrip() == row]
    # Chance is 10; four epochs give 50 and more.
    assert float(line[22:].split()[0]) > 25


def test_own_loss_is_read_back_with_its_temperature(own_loss):
    printed, folder = own_loss
    assert "own_loss.keras holds Hellinger with Certainty." in printed
    assert [path.name for path in folder.iterdir()] == ["own_loss.keras"]


def compare(folder, start=run):
    command = EXAMPLES / "compare_methods.py", "--quick", "--output", folder
    return start(*command, "--methods", "KD", "--seeds", "2", **SMOKE_RUN)


def runs_in(folder):
    return folder / "compare_methods_quick.jsonl"


def without_seconds(folder):
    lines = runs_in(folder).read_text(encoding="utf-8").splitlines()
    return [{**json.loads(line), "seconds": None} for line in lines]


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """What the comparison of one method prints, and the folder it leaves."""
    pytest.importorskip("sklearn", reason="The lesson needs scikit-learn's digits.")
    pytest.importorskip("matplotlib", reason="The lesson draws with matplotlib.")
    folder = tmp_path_factory.mktemp("comparison") / "made"
    return compare(folder), folder


def test_a_comparison_leaves_its_runs_its_table_and_its_picture(comparison):
    printed, folder = comparison
    endings = (".jsonl", ".md", ".png", "_teacher.keras")
    names = {path.name for path in folder.iterdir()}
    assert names == {f"compare_methods_quick{ending}" for ending in endings}
    table = (folder / "compare_methods_quick.md").read_text(encoding="utf-8")
    assert "SMOKE RUN" in table
    assert table in printed


def test_a_comparison_trains_with_the_rate_that_validation_chose(comparison):
    _, *runs = without_seconds(comparison[1])
    validation = [run for run in runs if run["split"] == "validation"]
    test = [run for run in runs if run["split"] == "test"]
    best = max(validation, key=lambda run: run["accuracy"])
    assert [run["seed"] for run in test] == [0, 1]
    assert {run["learning_rate"] for run in test} == {best["learning_rate"]}
    assert not {run["seed"] for run in validation} & {run["seed"] for run in test}


def test_an_interrupted_comparison_goes_on_to_the_same_end(comparison, tmp_path):
    _, whole = comparison
    stopped = shutil.copytree(whole, tmp_path / "stopped")
    settings, first, second, *_ = runs_in(whole).read_bytes().splitlines(True)
    runs_in(stopped).write_bytes(settings + first + second[:-1])
    compare(stopped)
    assert without_seconds(stopped) == without_seconds(whole)
    # What was finished is not run again: its seconds are those of the first time.
    assert runs_in(stopped).read_bytes().startswith(settings + first)
    assert runs_in(stopped).read_bytes() != runs_in(whole).read_bytes()


def test_runs_of_other_settings_are_refused(comparison, tmp_path):
    other = shutil.copytree(comparison[1], tmp_path / "other")
    settings, *runs = runs_in(other).read_bytes().splitlines(True)
    settings = settings.replace(b'"epochs": 6', b'"epochs": 7')
    runs_in(other).write_bytes(b"".join([settings, *runs]))
    done = compare(other, start=started)
    assert done.returncode != 0
    assert "other settings: epochs 7, now 6. Give another --output" in done.stderr
    assert runs_in(other).read_bytes() == b"".join([settings, *runs])


@pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_the_notebook_is_up_to_date(example):
    pytest.importorskip("jupytext", reason="Notebooks are made with jupytext.")
    run(ROOT / "tools" / "notebook.py", "--check", EXAMPLES / example)
