"""The table of run.json files, compared with NumPy."""

import json

import numpy as np
import pytest

from keras_dtkd import recipes
from keras_dtkd.cli import table
from tests.cli.fake_runs import build_table, make_run, report, write_run

pytest.importorskip("rich")


def test_table_has_mean_and_std_of_best_and_last_epoch(tmp_path):
    runs = {
        (method, backend): np.stack(
            [write_run(tmp_path, method, backend, seed) for seed in range(3)]
        )
        for method in ("dtkd", "ce")
        for backend in ("torch", "jax")
    }
    table = build_table(tmp_path)
    keys = [(row["method"], row["backend"]) for row in table["rows"]]
    assert keys == [("ce", "jax"), ("ce", "torch"), ("dtkd", "jax"), ("dtkd", "torch")]
    for row, key in zip(table["rows"], keys, strict=True):
        for which, values in (("best", runs[key].max(1)), ("last", runs[key][:, -1])):
            assert row[which]["mean"] == pytest.approx(values.mean())
            assert row[which]["std"] == pytest.approx(values.std(ddof=1))
        assert row["step_seconds"] == pytest.approx(0.02)
        assert row["memory_bytes"] == 3 * 10**9
        assert row["seeds"] == [0, 1, 2] and row["missing"] == []


def test_report_is_reproducible(tmp_path):
    for seed in range(2):
        write_run(tmp_path, seed=seed)
    first = report(tmp_path)
    written = {n: (tmp_path / f"report.{n}").read_bytes() for n in ("json", "md")}
    assert json.loads(written["json"]) == first
    assert report(tmp_path) == first
    assert {n: (tmp_path / f"report.{n}").read_bytes() for n in written} == written


def test_markdown_has_the_statistics(tmp_path):
    values = np.stack([write_run(tmp_path, seed=seed) for seed in range(2)])
    report(tmp_path)
    text = (tmp_path / "report.md").read_text()
    best, last = 100 * values.max(1), 100 * values[:, -1]
    cells = [f"{v.mean():.2f} ± {v.std(ddof=1):.2f}" for v in (best, last)]
    row = f"| kd | jax | 2 | {cells[0]} | {cells[1]} | 15.0 | 2.00 | 78,426 |"
    assert row in text.splitlines()


def test_unfinished_seeds_are_listed(tmp_path):
    finished = write_run(tmp_path)
    write_run(tmp_path, seed=1, status="failed")
    write_run(tmp_path, seed=2, status="planned")
    table = report(tmp_path)
    (row,) = table["rows"]
    missing = [(m["seed"], m["status"]) for m in row["missing"]]
    assert missing == [(1, "failed"), (2, "planned")]
    assert row["best"]["values"] == [finished.max()] and row["best"]["std"] is None
    text = (tmp_path / "report.md").read_text()
    assert "| 1 of 3 |" in text
    assert "missing: kd on jax, seeds 1 (failed), 2 (planned)" in text


def test_runs_with_different_settings_are_not_averaged(tmp_path):
    write_run(tmp_path)
    write_run(tmp_path, epochs=8)
    table = build_table(tmp_path)
    assert table["varying"] == ["epochs"]
    assert [row["epochs"] for row in table["rows"]] == [4, 8]
    assert "epochs" not in table["common"]


def test_runs_with_different_recipes_are_not_averaged(tmp_path):
    recipe = recipes.get("dkd", student="resnet8").to_dict()
    recipe["source"] = "The source is ignored."
    first = write_run(tmp_path, "dkd", recipe=recipe)
    write_run(tmp_path / "planned", "dkd", seed=2, status="planned", recipe=recipe)
    recipe["distillation_losses"]["dkd"]["arguments"]["beta"] = 2.0
    second = write_run(tmp_path, "dkd", seed=1, recipe=recipe)
    write_run(tmp_path, "kd")
    table = report(tmp_path)
    rows = [row for row in table["rows"] if row["method"] == "dkd"]
    assert [row["part"] for row in rows] == [1, 2]
    assert [row["best"]["values"] for row in rows] == [[first.max()], [second.max()]]
    assert [m["seed"] for m in rows[0]["missing"]] == [2] and not rows[1]["missing"]
    prefix = "dkd on jax: (1), (2) are not averaged, they differ in "
    assert f"{prefix}distillation_losses.dkd.beta: 8.0, 2.0" in table["notes"]
    text = (tmp_path / "report.md").read_text()
    assert "| dkd (1) | jax |" in text and "| kd | jax |" in text


@pytest.mark.parametrize(
    "session, difference",
    [
        ({"device": "NVIDIA H100"}, "device: cpu, NVIDIA H100"),
        ({"versions": {"keras": "3.15", "jax": "0.7"}}, "keras: 3.14, 3.15"),
        ({"versions": {"keras": "3.14", "jax": "0.8"}}, "jax: 0.7, 0.8"),
    ],
)
def test_runs_with_different_versions_or_devices_are_not_averaged(
    session, difference, tmp_path
):
    write_run(tmp_path)
    write_run(tmp_path, seed=1, session=session)
    table = build_table(tmp_path)
    assert [row["seeds"] for row in table["rows"]] == [[0], [1]]
    assert any(note.endswith(f"they differ in {difference}") for note in table["notes"])


def test_versions_of_unused_packages_are_ignored(tmp_path):
    write_run(tmp_path)
    write_run(tmp_path, seed=1, session={"versions": {"torch": "2", "numpy": "2"}})
    (row,) = build_table(tmp_path)["rows"]
    assert row["seeds"] == [0, 1] and row["part"] is None


def test_duplicate_seed_counts_once(tmp_path):
    write_run(tmp_path / "a", status="failed")
    first = write_run(tmp_path / "b")
    write_run(tmp_path / "c")
    table = build_table(tmp_path)
    (row,) = table["rows"]
    assert row["best"]["values"] == [first.max()] and not row["missing"]
    assert any(
        "kd on jax, seed 0: 3 runs, one of which counts" in note
        for note in table["notes"]
    )


def test_controls_of_another_weight_are_noted(tmp_path):
    pair = ("resnet56", "resnet20")
    names = dict(zip(("teacher", "student"), pair, strict=True))
    for method in ("dtkd", "cskd", "dist", "ce_4kd", "dkd", "ce_9kd", "ckd"):
        recipe = recipes.get(method, *pair).to_dict()
        write_run(tmp_path, method, recipe=recipe, **names)
    notes = build_table(tmp_path)["notes"]
    unequal = [note for note in notes if note.startswith("weights differ")]
    expected = [f"weights differ: {m} 4, ce_4kd 1.5" for m in ("cskd", "dist")]
    assert sorted(unequal) == expected


def test_notes_state_on_which_images_the_best_epoch_was_chosen(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", validation=0.1)
    test, validation = (" ".join(build_table(tmp_path / n)["notes"]) for n in "ab")
    assert "on the test images, chosen on them" in test
    assert "on the validation images (0.1" in validation


def test_notes_name_the_control_of_equal_weight(tmp_path):
    write_run(tmp_path, "dtkd")
    notes = " ".join(build_table(tmp_path)["notes"])
    assert "of dtkd: ce_4kd, which is not among these runs" in notes
    write_run(tmp_path, "ce_4kd")
    notes = " ".join(build_table(tmp_path)["notes"])
    assert "of dtkd: ce_4kd" in notes and "not among" not in notes


def test_teachers_of_one_name_are_distinguished():
    runs = []
    for sha, accuracy in (("a" * 64, 0.9), ("b" * 64, 0.6)):
        runs.append({**make_run(teacher_sha256=sha), "teacher_accuracy": accuracy})
    runs.append({**make_run(teacher="resnet20"), "teacher_accuracy": 0.8})
    expected = {"resnet14 (aaaaaaaa)": 0.9, "resnet14 (bbbbbbbb)": 0.6, "resnet20": 0.8}
    assert table.build_table(runs)["teachers"] == expected


def test_folders_whose_names_begin_alike_are_distinguished(tmp_path):
    for size in ("small", "large"):
        write_run(tmp_path, data=f"folder:data/flowers_{size}")
    header, *rows = table.to_cells(build_table(tmp_path))
    cells = [row[header.index("data")] for row in rows]
    assert len(set(cells)) == 2 and max(map(len, cells)) <= 16


def test_notes_state_the_weights_of_a_users_method(tmp_path):
    recipe = recipes.get("ce_4kd", student="resnet8").to_dict()
    write_run(tmp_path, "my.py:four", recipe=recipe)
    recipe = recipes.get("ckd", student="resnet8").to_dict()
    write_run(tmp_path, "my.py:other", recipe=recipe)
    notes = " ".join(build_table(tmp_path)["notes"])
    assert "my.py:four: 1 CE + KD of a total weight of 4; no control" in notes
    assert "my.py:other: " in notes and "CE + its losses; no control" in notes
