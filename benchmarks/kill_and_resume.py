"""`keras-dtkd train`, killed at random moments and run again: does it end the same?

A run is trained once without a break, and once killed with SIGKILL `--kills` times, at
random moments: of the start of the process, or of its training.
Compared are all files and figures at the end, bit for bit: the student, the state (with
the optimizer), the best student, the accuracy of every epoch.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import keras
import numpy as np
from machine import BACKEND, circumstances

RESULTS = Path(__file__).parent / "results"
PAIR = ("resnet14", "resnet8")


def command(output, *words):
    train = [sys.executable, "-m", "keras_dtkd.cli", "train", "--data", "digits"]
    where = ["--output", str(output), "--backend", BACKEND, "--verbose", "0"]
    return [*train, *where, "--deterministic", "--train-size", "320", *words]


def distilling(args, output, teacher):
    return command(
        output,
        *("--teacher", PAIR[0], "--teacher-weights", str(teacher)),
        *("--student", PAIR[1], "--method", args.method, "--validation", "0.1"),
        *("--epochs", str(args.epochs)),
    )


def folder(output, method, pair):
    return output / "digits" / pair / method / f"{BACKEND}-seed0"


def told(path):
    try:
        return json.loads((path / "run.json").read_text())
    except FileNotFoundError:
        return {"epochs_done": 0, "sessions": []}


def state(path):
    """Every array in it by name."""
    (file,) = (path / "state").glob("*.weights.h5")
    found = {}

    def keep(name, node):
        if isinstance(node, h5py.Dataset):
            found[name] = np.asarray(node)

    with h5py.File(file) as opened:
        opened.visititems(keep)
    return found


def weights(file):
    model = keras.saving.load_model(file, compile=False)
    return dict(enumerate(model.get_weights()))


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--method", default="dtkd")
    parser.add_argument("--seed", type=int, help="of the moments")
    args = parser.parse_args()
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as scratch:
        result = run(args, draw, Path(scratch))
    path = RESULTS / f"kill_and_resume-{BACKEND}.json"
    path.write_text(json.dumps({**result, **circumstances()}, indent=1) + "\n")
    print(json.dumps(result["same"], indent=1), path)
    sys.exit(not all(result["same"].values()))


def run(args, draw, scratch):
    alone = command(scratch, "--method", "ce", "--student", PAIR[0], "--epochs", "5")
    subprocess.run(alone, check=True)
    teacher = folder(scratch, "ce", PAIR[0])
    whole, broken = (
        folder(scratch / name, args.method, "-".join(PAIR))
        for name in ("whole", "broken")
    )
    began, first = time.perf_counter(), None
    process = subprocess.Popen(distilling(args, scratch / "whole", teacher))
    while process.poll() is None:
        if first is None and told(whole)["epochs_done"]:
            first = time.perf_counter() - began
        time.sleep(0.05)
    seconds = time.perf_counter() - began
    assert process.returncode == 0 and first is not None
    # As many such parts of the training do not reach its end.
    longest = 1.5 * (seconds - first) / args.kills
    kills = []
    for number in range(args.kills):
        # Three of ten fall on the start of the process, the others on its training.
        early, wait = draw.random() < 0.3, draw.random()
        before = told(broken)["epochs_done"]
        process = subprocess.Popen(distilling(args, scratch / "broken", teacher))
        while not early and process.poll() is None:
            if told(broken)["epochs_done"] > before:
                break
            time.sleep(0.02)
        time.sleep(wait * (first if early else longest))
        process.kill()
        if process.wait() != -signal.SIGKILL:
            sys.exit(f"ended before kill {number + 1}: give more --epochs")
        after = told(broken)["epochs_done"]
        kills.append({"while_starting": early, "epochs": [before, after]})
        print(f"killed, {early=}: epochs {before} to {after}", flush=True)
    subprocess.run(distilling(args, scratch / "broken", teacher), check=True)
    figures = [
        (run["val_accuracy"], run["result"]["best"], run["result"]["last"])
        for run in (told(whole), told(broken))
    ]
    return {
        "same": {
            "student.keras": same(
                *(weights(p / "student.keras") for p in (whole, broken))
            ),
            "best.keras": same(*(weights(p / "best.keras") for p in (whole, broken))),
            "state": same(state(whole), state(broken)),
            "accuracy of every epoch": figures[0] == figures[1],
        },
        "kills": kills,
        "epochs": args.epochs,
        "method": args.method,
        "arrays_in_state": len(state(whole)),
        "unbroken_seconds": seconds,
        "seconds_to_first_epoch": first,
    }


if __name__ == "__main__":
    main()
