"""Runs Keras's own tests of training, callbacks and saving against a Distiller.

    KERAS_BACKEND=jax python -m benchmarks.keras_suite.run [FILE...]

Each file runs twice: as it is, and with `plugin`. What fails as it is, fails without us
and is left out. The results go to `benchmarks/results/keras_suite-BACKEND.json`, the
table of all backends to `docs/keras_suite.md`. Files that are named, such as
`models/model_test.py`, are run alone, and take the place of their earlier results.
Needs `pip install pytest absl-py`.
"""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import keras

from benchmarks.keras_suite.by_design import BY_DESIGN

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
FILES = (
    *("trainers/trainer_test.py", "trainers/compile_utils_test.py"),
    *("callbacks/backup_and_restore_test.py", "callbacks/callback_test.py"),
    *("callbacks/csv_logger_test.py", "callbacks/early_stopping_test.py"),
    *("callbacks/lambda_callback_test.py", "callbacks/learning_rate_scheduler_test.py"),
    *("callbacks/model_checkpoint_test.py", "callbacks/reduce_lr_on_plateau_test.py"),
    *("callbacks/swap_ema_weights_test.py", "callbacks/terminate_on_nan_test.py"),
    *("models/model_test.py", "models/functional_test.py", "models/sequential_test.py"),
    *("saving/saving_api_test.py", "saving/saving_lib_test.py"),
)
OF_JAX = ("backend/jax/trainer_test.py", "backend/jax/distribution_lib_test.py")


def run_file(path, with_plugin, folder):
    """The outcome of each test of a file: `{name: (outcome, message)}`."""
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    plugin = ["-p", "benchmarks.keras_suite.plugin"] if with_plugin else []
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += [*plugin, f"--junitxml={report}", "-o", "addopts=", str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    if "distribution" in path.name:
        # On one device all of them fail, without us too.
        environment["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
    subprocess.run(command, cwd=folder, env=environment, capture_output=True)
    outcomes = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname', '').rpartition('.')[2]}.{case.get('name')}"
        outcome, message = "passed", ""
        for child in case:
            if child.tag in ("failure", "error", "skipped"):
                outcome = "skipped" if child.tag == "skipped" else "failed"
                message = (child.get("message") or "").strip()
        outcomes[name] = outcome, message
    return outcomes


def compare(path, folder):
    """What a file's tests do with a Distiller that they do not do without one."""
    plain, ours = (run_file(path, with_plugin, folder) for with_plugin in (False, True))
    counts = {"passed": 0, "by design": {}, "failed": {}, "fails without us": []}
    for name, (outcome, message) in ours.items():
        if plain.get(name, ("failed",))[0] == "failed":
            counts["fails without us"].append(name)
        elif outcome == "failed":
            reason = next(
                (why for part, why in BY_DESIGN.items() if part in name), None
            )
            if reason is None:
                counts["failed"][name] = message[:300]
            else:
                counts["by design"][name] = reason
        elif outcome == "passed":
            counts["passed"] += 1
    return counts


def main():
    """Runs all files on the backend of Keras, and writes results and table."""
    import tempfile

    backend = keras.config.backend()
    source = Path(keras.__file__).parent / "src"
    path = RESULTS / f"keras_suite-{backend}.json"
    files = [*FILES, *(OF_JAX if backend == "jax" else ())]
    results = {"keras": keras.__version__, "files": {}}
    if sys.argv[1:]:
        files, results = sys.argv[1:], json.loads(path.read_text())
    with tempfile.TemporaryDirectory() as folder:
        for name in files:
            results["files"][name] = found = compare(source / name, Path(folder))
            by_design, failed = len(found["by design"]), len(found["failed"])
            counts = f"{found['passed']} passed, {by_design} by design, {failed} failed"
            print(f"{name}: {counts}", flush=True)
            for test, message in found["failed"].items():
                print(f"    {test}: {message}")
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    (ROOT / "docs" / "keras_suite.md").write_text(to_markdown())
    return any(found["failed"] for found in results["files"].values())


def to_markdown():
    """The table of files by backend, and the tests that cannot hold by design."""
    backends = ("tensorflow", "jax", "torch")
    paths = {name: RESULTS / f"keras_suite-{name}.json" for name in backends}
    found = {n: json.loads(p.read_text()) for n, p in paths.items() if p.exists()}
    version = " and ".join(dict.fromkeys(f["keras"] for f in found.values()))
    lines = [
        "# Keras's own tests against a Distiller",
        "",
        f"The tests of Keras {version}, with each model under test as the student of a",
        "`Distiller` whose loss has the weight 0. Their assertions are untouched.",
        "",
        "`KERAS_BACKEND=jax python -m benchmarks.keras_suite.run`",
        "",
        "passed / failed by design / failed. Failures of Keras alone are left out.",
        "",
        f"| file | {' | '.join(found)} |",
        f"|---|{'---|' * len(found)}",
    ]
    names = dict.fromkeys(n for f in found.values() for n in f["files"])
    for name in names:
        cells = []
        for result in found.values():
            counts = result["files"].get(name)
            parts = ("passed", "by design", "failed")
            cells.append(
                "–"
                if counts is None
                else " / ".join(
                    str(counts[p] if p == "passed" else len(counts[p])) for p in parts
                )
            )
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    lines += ["", "## Failed by design", ""]
    reasons: dict = {}
    for result in found.values():
        for counts in result["files"].values():
            for test, why in counts["by design"].items():
                reasons.setdefault(why, {})[test] = None
    for why, tests in sorted(reasons.items()):
        lines.append(f"- {why}: {', '.join(f'`{test}`' for test in tests)}.")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
