"""The short examples run, and all notebooks match their examples."""

import json
import shutil
from inspect import isfunction

import keras
import numpy as np
import pytest

from keras_dtkd import plots
from tests.scripts import EXAMPLES, ROOT, SMOKE_RUN, run_script, start_script


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    """The printed output of a smoke run, and its output folder."""
    pytest.importorskip("sklearn", reason="The quickstart needs scikit-learn's digits.")
    pytest.importorskip("matplotlib", reason="The quickstart draws with matplotlib.")
    folder = tmp_path_factory.mktemp("quickstart") / "output"
    printed = run_script(
        EXAMPLES / "quickstart.py",
        KERAS_DTKD_OUT=str(folder),
        **SMOKE_RUN,
    )
    return printed, folder


def test_a_smoke_run_of_the_quickstart_is_labeled_as_one(quickstart):
    printed, _ = quickstart
    assert "SMOKE RUN" in printed


@pytest.mark.parametrize(
    "row",
    ["teacher", "student alone", "KD", "CE + 4 KD", "DTKD", "DTKD, published"],
)
def test_the_quickstart_has_every_row_in_its_table(quickstart, row):
    table = quickstart[0].partition("accuracy %")[2].splitlines()
    assert any(line[:16].rstrip() == row for line in table)


def test_the_quickstart_writes_its_picture(quickstart):
    picture = quickstart[1] / "quickstart.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 20_000


def test_the_quickstart_student_can_be_loaded_and_classifies_digits(quickstart):
    from sklearn.datasets import load_digits

    student = keras.models.load_model(quickstart[1] / "student.keras")
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1).astype("float32") / 16
    predicted = keras.ops.convert_to_numpy(student(images)).argmax(-1)
    # Chance is 0.1; six epochs give about 0.9.
    assert np.mean(predicted == labels) > 0.6


def test_the_quickstart_writes_no_other_files(quickstart):
    names = sorted(path.name for path in quickstart[1].iterdir())
    assert names == ["quickstart.png", "student.keras"]


@pytest.fixture(scope="module")
def own_loss(tmp_path_factory):
    """The printed output of a smoke run, and its output folder."""
    pytest.importorskip("sklearn", reason="The example needs scikit-learn's digits.")
    folder = tmp_path_factory.mktemp("own_loss") / "output"
    script = EXAMPLES / "own_loss.py"
    return run_script(script, KERAS_DTKD_OUT=str(folder), **SMOKE_RUN), folder


@pytest.mark.parametrize(
    "row",
    ["student alone", "KD", "KD, Certainty", "Hellinger", "Hellinger, Certainty"],
)
def test_own_loss_has_every_row_in_its_table(own_loss, row):
    table = own_loss[0].partition("accuracy %")[2].splitlines()
    (line,) = [line for line in table if line[:22].rstrip() == row]
    # Chance is 10; four epochs give 50 and more.
    assert float(line[22:].split()[0]) > 25


def test_own_loss_is_loaded_with_its_temperature(own_loss):
    printed, folder = own_loss
    assert "own_loss.keras contains Hellinger with Certainty." in printed
    assert [path.name for path in folder.iterdir()] == ["own_loss.keras"]


def test_every_plot_has_its_picture(tmp_path):
    pytest.importorskip("sklearn", reason="The example needs scikit-learn's digits.")
    pytest.importorskip("matplotlib", reason="The example draws with matplotlib.")
    printed = run_script(
        EXAMPLES / "plots.py", KERAS_DTKD_OUT=str(tmp_path), **SMOKE_RUN
    )
    public = {name for name in dir(plots) if isfunction(getattr(plots, name))}
    public.remove("detections")  # examples/small_detector.py draws it.
    pictures = {path.name for path in tmp_path.iterdir()}
    assert pictures == {f"plots_{name}.png" for name in public}
    for name in public:
        assert f"plots_{name}.png" in printed
        # In docs/plots.md too.
        assert (ROOT / "docs" / f"plots_{name}.png").stat().st_size > 10_000


def compare(folder, run=run_script):
    command = EXAMPLES / "compare_methods.py", "--quick", "--output", folder
    return run(*command, "--methods", "KD", "--seeds", "2", **SMOKE_RUN)


def runs_file(folder):
    return folder / "compare_methods_quick.jsonl"


def load_runs_without_seconds(folder):
    lines = runs_file(folder).read_text(encoding="utf-8").splitlines()
    return [{**json.loads(line), "seconds": None} for line in lines]


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """The printed output of a comparison of one method, and its output folder."""
    pytest.importorskip("sklearn", reason="The example needs scikit-learn's digits.")
    pytest.importorskip("matplotlib", reason="The example draws with matplotlib.")
    folder = tmp_path_factory.mktemp("comparison") / "output"
    return compare(folder), folder


def test_a_comparison_writes_its_runs_table_and_picture(comparison):
    printed, folder = comparison
    endings = (".jsonl", ".md", ".png", "_teacher.keras")
    names = {path.name for path in folder.iterdir()}
    assert names == {f"compare_methods_quick{ending}" for ending in endings}
    table = (folder / "compare_methods_quick.md").read_text(encoding="utf-8")
    assert "SMOKE RUN" in table
    assert table in printed


def test_a_comparison_uses_the_learning_rate_with_the_best_validation(comparison):
    _, *runs = load_runs_without_seconds(comparison[1])
    validation = [run for run in runs if run["split"] == "validation"]
    test = [run for run in runs if run["split"] == "test"]
    best = max(validation, key=lambda run: run["accuracy"])
    assert [run["seed"] for run in test] == [0, 1]
    assert {run["learning_rate"] for run in test} == {best["learning_rate"]}
    assert not {run["seed"] for run in validation} & {run["seed"] for run in test}


def test_a_resumed_comparison_equals_an_uninterrupted_one(comparison, tmp_path):
    _, complete = comparison
    resumed = shutil.copytree(complete, tmp_path / "resumed")
    settings, first, second, *_ = runs_file(complete).read_bytes().splitlines(True)
    runs_file(resumed).write_bytes(settings + first + second[:-1])
    compare(resumed)
    assert load_runs_without_seconds(resumed) == load_runs_without_seconds(complete)
    # Finished runs are not repeated: their seconds are the original ones.
    assert runs_file(resumed).read_bytes().startswith(settings + first)
    assert runs_file(resumed).read_bytes() != runs_file(complete).read_bytes()


def test_runs_with_other_settings_are_rejected(comparison, tmp_path):
    other = shutil.copytree(comparison[1], tmp_path / "other")
    settings, *runs = runs_file(other).read_bytes().splitlines(True)
    settings = settings.replace(b'"epochs": 6', b'"epochs": 7')
    runs_file(other).write_bytes(b"".join([settings, *runs]))
    process = compare(other, run=start_script)
    assert process.returncode != 0
    assert "other settings: epochs 7, now 6. Pass another --output" in process.stderr
    assert runs_file(other).read_bytes() == b"".join([settings, *runs])


@pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_the_notebook_is_up_to_date(example):
    pytest.importorskip("jupytext", reason="Notebooks are created with jupytext.")
    run_script(ROOT / "tools" / "notebook.py", "--check", EXAMPLES / example)
