"""run.json files as `train` writes them."""

import json
import zlib

import numpy as np

from keras_dtkd import recipes
from keras_dtkd.cli import main, run_dir, table

EPOCHS = 4


def write_run(
    folder,
    method="kd",
    backend="jax",
    seed=0,
    status="finished",
    recipe=None,
    session=None,
    **settings,
):
    """Writes the run.json of a run and returns its accuracies."""
    name = "-".join(map(str, (method, backend, seed, *settings.values())))
    run = make_run(method, backend, seed, status, recipe, session, **settings)
    (folder / name).mkdir(parents=True)
    (folder / name / "run.json").write_text(json.dumps(run))
    return np.array(run.get("val_accuracy", ()))


def make_run(
    method="kd",
    backend="jax",
    seed=0,
    status="finished",
    recipe=None,
    session=None,
    **settings,
):
    """The content of a run.json."""
    name = "-".join(map(str, (method, backend, seed, *settings.values())))
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    accuracies = rng.uniform(0.5, 0.8, EPOCHS).round(4)
    best = int(accuracies.argmax())
    values = {
        "data": "digits",
        "teacher": None if method == "ce" else "resnet14",
        "student": "resnet8",
        "method": method,
        "backend": backend,
        "seed": seed,
        "epochs": EPOCHS,
        "validation": 0.0,
        **settings,
    }
    run = {
        "status": status,
        "settings": values,
        "recipe": recipe or recipes.get(method, student="resnet8").to_dict(),
        "sessions": [
            {
                "wall_seconds": 3.0,
                "peak_memory_bytes": 10**9 * (1 + seed),
                "versions": {"keras": "3.14", "jax": "0.7"},
                "device": "cpu",
                **(session or {}),
            }
        ],
        "judged_on": "validation" if values["validation"] else "test",
    }
    if status == "planned":
        del run["sessions"]
    if status == "finished":
        run |= {
            "parameters": 78426,
            "val_accuracy": accuracies.tolist(),
            "result": {
                "best": {"epoch": best + 1, "accuracy": float(accuracies[best])},
                "last": {"epoch": EPOCHS, "accuracy": float(accuracies[-1])},
                "step_seconds": 0.01 * (1 + seed),
            },
        }
    return run


def report(folder):
    assert main(["report", str(folder)]) == 0
    return json.loads((folder / "report.json").read_text())


def read_runs(folder):
    paths = sorted(folder.rglob("run.json"))
    return [run_dir.read_run(path.parent) for path in paths]


def build_table(folder):
    return table.build_table(read_runs(folder))
