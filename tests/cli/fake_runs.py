"""run.json files as `train` leaves them."""

import json

import numpy as np

from keras_dtkd import recipes
from keras_dtkd.cli import main

RNG = np.random.default_rng(0)
EPOCHS = 4


def plant(
    root,
    method="kd",
    backend="jax",
    seed=0,
    status="finished",
    recipe=None,
    session=None,
    **settings,
):
    """A run.json as `train` leaves it; gives its accuracies."""
    accuracies = RNG.uniform(0.5, 0.8, EPOCHS).round(4)
    best = int(accuracies.argmax())
    chosen = {
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
        "settings": chosen,
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
        "judged_on": "validation" if chosen["validation"] else "test",
    }
    if status == "planned":
        del run["sessions"]
    if status == "finished":
        run |= {
            "parameters": 78426,
            "val_accuracy": accuracies.tolist(),
            "result": {
                "best": {"epoch": best + 1, "accuracy": accuracies[best]},
                "last": {"epoch": EPOCHS, "accuracy": accuracies[-1]},
                "step_seconds": 0.01 * (1 + seed),
            },
        }
    text = json.dumps(run)
    name = "-".join(map(str, (method, backend, seed, *settings.values())))
    (root / name).mkdir(parents=True)
    (root / name / "run.json").write_text(text)
    return accuracies


def report(root, capsys):
    assert main(["report", str(root)]) == 0
    return json.loads((root / "report.json").read_text())
