"""The table from planted run.json files, against NumPy."""

import json

import numpy as np
import pytest

from keras_dtkd import recipes
from tests.cli.fake_runs import plant, report

pytest.importorskip("rich")


def test_mean_and_std_of_both_epochs(tmp_path, capsys):
    runs = {
        (method, backend): np.stack(
            [plant(tmp_path, method, backend, seed) for seed in range(3)]
        )
        for method in ("dtkd", "ce")
        for backend in ("torch", "jax")
    }
    made = report(tmp_path, capsys)
    keys = [(row["method"], row["backend"]) for row in made["rows"]]
    assert keys == [("ce", "jax"), ("ce", "torch"), ("dtkd", "jax"), ("dtkd", "torch")]
    for row, key in zip(made["rows"], keys, strict=True):
        for which, values in (("best", runs[key].max(1)), ("last", runs[key][:, -1])):
            assert row[which]["mean"] == pytest.approx(values.mean())
            assert row[which]["std"] == pytest.approx(values.std(ddof=1))
        assert row["step_seconds"] == pytest.approx(0.02)
        assert row["memory_bytes"] == 3 * 10**9
        assert row["seeds"] == [0, 1, 2] and row["missing"] == []


def test_the_same_files_give_the_same_table(tmp_path, capsys):
    for seed in range(2):
        plant(tmp_path, seed=seed)
    first = report(tmp_path, capsys)
    written = {n: (tmp_path / f"report.{n}").read_bytes() for n in ("json", "md")}
    assert json.loads(written["json"]) == first
    assert report(tmp_path, capsys) == first
    assert {n: (tmp_path / f"report.{n}").read_bytes() for n in written} == written


def test_the_markdown_has_the_figures(tmp_path, capsys):
    values = np.stack([plant(tmp_path, seed=seed) for seed in range(2)])
    report(tmp_path, capsys)
    text = (tmp_path / "report.md").read_text()
    best, last = 100 * values.max(1), 100 * values[:, -1]
    cells = [f"{v.mean():.2f} ± {v.std(ddof=1):.2f}" for v in (best, last)]
    row = f"| kd | jax | 2 | {cells[0]} | {cells[1]} | 15.0 | 2.00 | 78,426 |"
    assert row in text.splitlines()


def test_no_seed_is_dropped_in_silence(tmp_path, capsys):
    finished = plant(tmp_path)
    plant(tmp_path, seed=1, status="failed")
    plant(tmp_path, seed=2, status="planned")
    made = report(tmp_path, capsys)
    (row,) = made["rows"]
    missing = [(m["seed"], m["status"]) for m in row["missing"]]
    assert missing == [(1, "failed"), (2, "planned")]
    assert row["best"]["values"] == [finished.max()] and row["best"]["std"] is None
    text = (tmp_path / "report.md").read_text()
    assert "| 1 of 3 |" in text
    assert "missing: kd on jax, seeds 1 (failed), 2 (planned)" in text


def test_runs_of_other_settings_are_never_averaged(tmp_path, capsys):
    plant(tmp_path)
    plant(tmp_path, epochs=8)
    made = report(tmp_path, capsys)
    assert made["varying"] == ["epochs"]
    assert [row["epochs"] for row in made["rows"]] == [4, 8]
    assert "epochs" not in made["common"]


def test_runs_with_other_recipes_are_never_averaged(tmp_path, capsys):
    recipe = recipes.get("dkd", student="resnet8").to_dict()
    recipe["source"] = "Words do not matter."
    first = plant(tmp_path, "dkd", recipe=recipe)
    plant(tmp_path / "planned", "dkd", seed=2, status="planned", recipe=recipe)
    recipe["distillation_losses"]["dkd"]["arguments"]["beta"] = 2.0
    second = plant(tmp_path, "dkd", seed=1, recipe=recipe)
    plant(tmp_path, "kd")
    made = report(tmp_path, capsys)
    rows = [row for row in made["rows"] if row["method"] == "dkd"]
    assert [row["part"] for row in rows] == [1, 2]
    assert [row["best"]["values"] for row in rows] == [[first.max()], [second.max()]]
    assert [m["seed"] for m in rows[0]["missing"]] == [2] and not rows[1]["missing"]
    told = "dkd on jax: (1), (2) are not averaged, they differ in "
    assert f"{told}distillation_losses.dkd.beta: 8.0, 2.0" in made["notes"]
    text = (tmp_path / "report.md").read_text()
    assert "| dkd (1) | jax |" in text and "| kd | jax |" in text


@pytest.mark.parametrize(
    "session, told",
    [
        ({"device": "NVIDIA H100"}, "device: cpu, NVIDIA H100"),
        ({"versions": {"keras": "3.15", "jax": "0.7"}}, "keras: 3.14, 3.15"),
        ({"versions": {"keras": "3.14", "jax": "0.8"}}, "jax: 0.7, 0.8"),
    ],
)
def test_runs_made_with_other_things_are_never_averaged(
    session, told, tmp_path, capsys
):
    plant(tmp_path)
    plant(tmp_path, seed=1, session=session)
    made = report(tmp_path, capsys)
    assert [row["seeds"] for row in made["rows"]] == [[0], [1]]
    assert any(note.endswith(f"they differ in {told}") for note in made["notes"])


def test_versions_of_what_did_not_compute_make_no_difference(tmp_path, capsys):
    plant(tmp_path)
    plant(tmp_path, seed=1, session={"versions": {"torch": "2", "numpy": "2"}})
    (row,) = report(tmp_path, capsys)["rows"]
    assert row["seeds"] == [0, 1] and row["part"] is None


def test_a_seed_that_lies_there_twice_counts_once(tmp_path, capsys):
    plant(tmp_path / "a", status="failed")
    first = plant(tmp_path / "b")
    plant(tmp_path / "c")
    made = report(tmp_path, capsys)
    (row,) = made["rows"]
    assert row["best"]["values"] == [first.max()] and not row["missing"]
    assert any("kd on jax, seed 0: 3 runs lie here" in note for note in made["notes"])


def test_a_control_of_another_weight_is_told(tmp_path, capsys):
    pair = ("resnet56", "resnet20")
    names = dict(zip(("teacher", "student"), pair, strict=True))
    for method in ("dtkd", "cskd", "dist", "ce_4kd", "dkd", "ce_9kd", "ckd"):
        recipe = recipes.get(method, *pair).to_dict()
        plant(tmp_path, method, recipe=recipe, **names)
    notes = report(tmp_path, capsys)["notes"]
    found = [note for note in notes if note.startswith("weights differ")]
    expected = [f"weights differ: {m} 4, ce_4kd 1.5" for m in ("cskd", "dist")]
    assert sorted(found) == expected


def test_the_table_says_what_the_best_epoch_was_chosen_on(tmp_path, capsys):
    plant(tmp_path / "a")
    plant(tmp_path / "b", validation=0.1)
    said = [" ".join(report(tmp_path / name, capsys)["notes"]) for name in "ab"]
    assert "on the test images, chosen on them" in said[0]
    assert "on the validation images (0.1" in said[1]


def test_the_table_names_the_control_of_equal_weight(tmp_path, capsys):
    plant(tmp_path, "dtkd")
    notes = " ".join(report(tmp_path, capsys)["notes"])
    assert "of dtkd: ce_4kd, which is not among these runs" in notes
    plant(tmp_path, "ce_4kd")
    notes = " ".join(report(tmp_path, capsys)["notes"])
    assert "of dtkd: ce_4kd" in notes and "not among" not in notes
