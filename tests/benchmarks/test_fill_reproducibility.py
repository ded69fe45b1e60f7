"""docs/reproducibility.md has what was measured on accelerators."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("filelock")
pytestmark = pytest.mark.single_backend

ROOT = Path(__file__).parents[2]
STUDY = ROOT / "benchmarks" / "cifar100" / "study" / "warm"


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        # The script imports modules of its own folder.
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        import fill_reproducibility

        yield fill_reproducibility


def test_the_committed_tables_are_those_of_the_committed_results(script):
    text = (ROOT / "docs" / "reproducibility.md").read_text(encoding="utf-8")
    assert script.fill(text, ROOT / "benchmarks" / "accelerator") == text


def write_run(folder, method, seed, accuracy, teacher="resnet56", student="resnet20"):
    """A finished run of the committed study, as one of another pair."""
    source = STUDY / method / f"tensorflow-seed{seed}" / "run.json"
    run = json.loads(source.read_text(encoding="utf-8"))
    run["settings"] |= {"student": student}
    if run["settings"]["teacher"] is not None:
        run["settings"]["teacher"] = teacher
    run["result"]["last"]["accuracy"] = accuracy
    run["result"]["best"]["accuracy"] = accuracy + 0.01
    path = folder / "runs" / f"{teacher}-{student}" / method / str(seed) / "run.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(run), encoding="utf-8")


def test_accuracies_are_means_over_seeds(script, tmp_path):
    for seed, accuracy in enumerate((0.70, 0.71, 0.72)):
        write_run(tmp_path, "dtkd", seed, accuracy)
    write_run(tmp_path, "ce", 0, 0.69)
    text = script.make_text(tmp_path)
    rows = dict(line[2:].split(" | ", 1) for line in text.splitlines() if "| " in line)
    cells = rows["DTKD"].split(" | ")
    assert cells[1] == "71.00 ± 1.00, 72.00 ± 1.00"
    assert cells[0] == "not measured"
    assert "69.00, 70.00 (1 seed)" in rows["student alone"]


def test_timings_name_their_card(script, tmp_path):
    card = tmp_path / "some-card"
    card.mkdir()
    step = {"device": "Some Card", "backend": "jax", "seconds": {}}
    step["seconds"]["64"] = {"kd": [0.002, 0.004, 0.003], "jax": [0.001, 0.002, 0.003]}
    (card / "step_time_float32-jax.json").write_text(json.dumps(step))
    line = {"tokens": 1024, "plain": None, "chunked": {"bytes": 5e8, "seconds": 0.01}}
    chunks = {"device": "Some Card", "backend": "jax", "results": [line]}
    (card / "chunked_divergence-jax.json").write_text(json.dumps(chunks))
    rollouts = {"device": "Some Card", "backend": "jax", "length": 64, "prompt": 8}
    rollouts |= {"batches": [16], "seconds": {"16, the teacher's": 0.1}}
    (card / "rollout_speed-jax.json").write_text(json.dumps(rollouts))
    text = script.make_text(tmp_path)
    assert "| Some Card | jax | float32 | 64 | 3.00 |  | ÷ 2.00 |  |  |" in text
    assert "| Some Card | jax | 1,024 | failed | 500 MB, 10.0 ms |" in text
    assert "| Some Card | jax | 16 | 8,960 |" in text


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed.")
def test_without_an_accelerator_the_script_ends_with_a_reason(tmp_path):
    from keras_dtkd import backend

    if backend.device_info()[0] != "cpu":
        pytest.skip("There is an accelerator.")
    command = ["bash", ROOT / "benchmarks" / "accelerator.sh", "teacher.npz", "data"]
    environment = {**os.environ, "PYTHON": sys.executable}
    result = subprocess.run(
        [*command, tmp_path / "runs"], capture_output=True, text=True, env=environment
    )
    assert result.returncode == 2
    assert "No accelerator was found" in result.stderr
    assert not list(tmp_path.iterdir())
