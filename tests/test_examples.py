"""The lessons run, and their notebooks say the same."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(*command, **settings):
    done = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "KERAS_BACKEND": keras.config.backend(), **settings},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    """What a smoke run prints, and the folder it leaves."""
    pytest.importorskip("sklearn", reason="The quickstart needs scikit-learn's digits.")
    pytest.importorskip("matplotlib", reason="The quickstart draws with matplotlib.")
    folder = tmp_path_factory.mktemp("quickstart") / "made"
    printed = run(
        ROOT / "examples" / "quickstart.py",
        KERAS_DTKD_QUICK="1",
        KERAS_DTKD_OUT=str(folder),
        MPLBACKEND="agg",
        PYTHONIOENCODING="utf-8",
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


def test_the_notebook_is_up_to_date():
    pytest.importorskip("jupytext", reason="Notebooks are made with jupytext.")
    run(ROOT / "tools" / "notebook.py", "--check")
