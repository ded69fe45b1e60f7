"""What is measured on accelerators: the commands, and docs/reproducibility.md."""

import json
import signal
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("filelock")
pytestmark = pytest.mark.single_backend

ROOT = Path(__file__).parents[2]
STUDY = ROOT / "benchmarks" / "cifar100" / "study" / "warm"


@pytest.fixture(scope="module")
def modules():
    """The scripts `accelerator` and `fill_reproducibility`."""
    with pytest.MonkeyPatch.context() as patch:
        # They import modules of their own folder.
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        import accelerator
        import fill_reproducibility

        yield accelerator, fill_reproducibility


@pytest.fixture
def accelerator(modules):
    return modules[0]


@pytest.fixture
def fill(modules):
    return modules[1]


def test_the_committed_tables_are_those_of_the_committed_results(fill):
    text = (ROOT / "docs" / "reproducibility.md").read_text(encoding="utf-8")
    assert fill.fill(text, ROOT / "benchmarks" / "accelerator") == text


def write_run(path, method, seed, accuracy, device="Some Card", **settings):
    """A finished run of the committed study, as one of another pair."""
    source = STUDY / method / f"tensorflow-seed{seed}" / "run.json"
    run = json.loads(source.read_text(encoding="utf-8"))
    run["settings"] |= {"student": "resnet20", **settings}
    if run["settings"]["teacher"] is not None:
        run["settings"]["teacher"] = "resnet56"
    for session in run["sessions"]:
        session["device"] = device
    run["result"]["last"]["accuracy"] = accuracy
    run["result"]["best"]["accuracy"] = accuracy + 0.01
    path.mkdir(parents=True)
    (path / "run.json").write_text(json.dumps(run), encoding="utf-8")


def test_accuracies_are_means_over_seeds_on_any_card(fill, tmp_path):
    runs = tmp_path / "runs" / "resnet56-resnet20"
    for seed, accuracy in enumerate((0.70, 0.71, 0.72)):
        device = f"Card {seed % 2}"
        write_run(runs / f"dtkd/jax-seed{seed}", "dtkd", seed, accuracy, device)
    write_run(runs / "ce/jax-seed0", "ce", 0, 0.69, "Card 0")
    text = fill.make_text(tmp_path)
    rows = dict(line[2:].split(" | ", 1) for line in text.splitlines() if "| " in line)
    cells = rows["DTKD"].split(" | ")
    assert cells[1] == "71.00 ± 1.00, 72.00 ± 1.00"
    assert cells[0] == "not measured"
    assert "69.00, 70.00 (1 seed)" in rows["student alone"]
    assert "On: Card 0, Card 1." in text


def test_runs_of_several_settings_are_not_averaged(fill, tmp_path):
    runs = tmp_path / "runs" / "resnet56-resnet20" / "kd"
    write_run(runs / "jax-seed0", "kd", 0, 0.7)
    write_run(runs / "jax-seed1", "kd", 1, 0.1, epochs=1)
    assert "runs of several settings" in fill.make_text(tmp_path)


def test_timings_name_their_card(fill, tmp_path):
    card = tmp_path / "some-card"
    card.mkdir()
    step = {"device": "Some Card", "backend": "jax", "seconds": {}}
    step["seconds"]["64"] = {"kd": [0.002, 0.004, 0.003], "jax": [0.001, 0.002, 0.003]}
    (card / "step_time_float32_64-jax.json").write_text(json.dumps(step))
    line = {"tokens": 1024, "plain": None}
    line["chunked"] = {"bytes": 500 * 2**20, "seconds": 0.01}
    chunks = {"device": "Some Card", "backend": "jax", "results": [line]}
    (card / "chunked_divergence-jax.json").write_text(json.dumps(chunks))
    rollouts = {"device": "Some Card", "backend": "jax", "length": 64, "prompt": 8}
    rollouts |= {"batches": [16], "seconds": {"16, the teacher's": 0.1}}
    (card / "rollout_speed-jax.json").write_text(json.dumps(rollouts))
    text = fill.make_text(tmp_path)
    assert "| Some Card | jax | float32 | 64 | 3.00 |  | ÷ 2.00 |  |  |" in text
    assert "| Some Card | jax | 1,024 | failed | 500 MiB, 10.0 ms |" in text
    assert "| Some Card | jax | 16 | 8,960 |" in text


SLOW = "import sys, time; print('began', flush=True); time.sleep(60)"


def test_a_command_ends_with_the_time(accelerator, tmp_path, capfd):
    commands = accelerator.Commands(1.5)
    start = time.monotonic()
    # Where this process runs in the background, Ctrl-C is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        log = tmp_path / "log"
        assert not commands.run([sys.executable, "-c", SLOW], "jax", log)
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - start < 15
    assert not commands.failed and "began" in log.read_text()
    # Nothing begins afterwards.
    assert not commands.run([sys.executable, "-c", "print('late')"], "jax")
    assert "late" not in capfd.readouterr().out


def test_a_command_that_fails_is_named(accelerator, capfd):
    commands = accelerator.Commands(60)
    assert not commands.run([sys.executable, "-c", "raise SystemExit(3)"], "jax")
    assert len(commands.failed) == 1
    assert "FAILED" in capfd.readouterr().out


class Recorder:
    """Stands for `Commands`: each training finishes and has a run.json."""

    def __init__(self, *failing):
        self.failing, self.runs = failing, []

    def run(self, command, backend, log=None):
        options = dict(zip(command[4::2], command[5::2], strict=True))
        names = options.get("--teacher"), options["--student"]
        networks = "-".join(filter(None, names))
        seed = f"{backend}-seed{options['--seed']}"
        place = f"{networks}/{options['--method']}/{seed}"
        self.runs.append(place)
        if networks in self.failing:
            return False
        path = options["--output"] / options["--data"] / place
        path.mkdir(parents=True)
        (path / "run.json").write_text('{"status": "finished"}')
        (path / "student.keras").touch()
        return True


def make_study(accelerator, commands, folder, teacher):
    folders = folder / "my runs", folder / "results"
    folders[0].mkdir(exist_ok=True)
    return accelerator.Study(commands, *folders, "jax", teacher, "digits", [], 2)


def test_each_run_is_trained_once_the_given_teacher_first(accelerator, tmp_path):
    teacher = tmp_path / "teacher.npz"
    teacher.touch()
    first = Recorder()
    make_study(accelerator, first, tmp_path, teacher).train_all(range(3))
    assert len(first.runs) == len(set(first.runs)) == 3 * 8 * 3 + 2
    assert all(place.startswith("resnet32x4-resnet8x4/") for place in first.runs[:24])
    assert set(first.runs[24:26]) == {
        f"{name}/ce/jax-seed0" for name in ("resnet56", "wrn_40_2")
    }
    assert len(list((tmp_path / "results").rglob("run.json"))) == 72
    again = Recorder()
    make_study(accelerator, again, tmp_path, teacher).train_all(range(3))
    assert not again.runs


def test_what_the_results_have_is_not_trained_on_another_machine(accelerator, tmp_path):
    first, second = Recorder(), Recorder()
    make_study(accelerator, first, tmp_path, None).train_all(range(1))
    (tmp_path / "my runs").rename(tmp_path / "lost")
    make_study(accelerator, second, tmp_path, None).train_all(range(1))
    # The teachers alone, whose weights the results have not.
    assert len(second.runs) == 3


def test_without_its_teacher_a_pair_waits(accelerator, tmp_path):
    commands = Recorder("resnet56")
    make_study(accelerator, commands, tmp_path, None).train_all(range(1))
    assert not any("resnet56-resnet20" in place for place in commands.runs)
    assert len(commands.runs) == 3 + 2 * 8


def test_an_interrupted_measurement_is_none(accelerator, tmp_path, monkeypatch):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, pathlib; pathlib.Path(sys.argv[-1]).write_text('{')\n"
        "sys.exit(int(sys.argv[1]))"
    )
    monkeypatch.setattr(accelerator, "HERE", tmp_path)
    for code, exists in ((1, False), (0, True)):
        commands = accelerator.Commands(60)
        accelerator.measure(commands, tmp_path, "x", "jax", script.name, code)
        assert (tmp_path / "x-jax.json").exists() == exists


def test_without_an_accelerator_there_is_a_reason(accelerator, monkeypatch, tmp_path):
    for name in ("teacher.npz", "data"):
        (tmp_path / name).touch()
    paths = [str(tmp_path / name) for name in ("teacher.npz", "data", "runs")]
    monkeypatch.setattr(sys, "argv", ["accelerator.py", *paths])
    monkeypatch.setattr(accelerator, "find_devices", lambda: {"jax": "cpu"})
    with pytest.raises(SystemExit, match="No backend finds an accelerator"):
        accelerator.main()
    monkeypatch.setattr(sys, "argv", ["accelerator.py", "none.npz", *paths[1:]])
    with pytest.raises(SystemExit, match="2"):
        accelerator.main()
    assert not (tmp_path / "runs").exists()
