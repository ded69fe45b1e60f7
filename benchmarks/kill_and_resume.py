"""Kill `keras-dtkd train` at random times, resume it, and compare the results.

One run is trained without interruption, another is killed with SIGKILL `--kills` times
at random times, during the start of the process or during training. All files and
accuracies at the end are compared bit for bit: the student, the state (with the
optimizer), the best student, the accuracy of every epoch.
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
from machine import BACKEND, environment_info

RESULTS = Path(__file__).parent / "results"
PAIR = ("resnet14", "resnet8")


def train_command(output, *arguments):
    train = [sys.executable, "-m", "keras_dtkd.cli", "train", "--data", "digits"]
    run = ["--output", str(output), "--backend", BACKEND, "--verbose", "0"]
    return [*train, *run, "--deterministic", "--train-size", "320", *arguments]


def distill_command(args, output, teacher):
    return train_command(
        output,
        *("--teacher", PAIR[0], "--teacher-weights", str(teacher)),
        *("--student", PAIR[1], "--method", args.method, "--validation", "0.1"),
        *("--epochs", str(args.epochs)),
    )


def run_dir(output, method, pair):
    return output / "digits" / pair / method / f"{BACKEND}-seed0"


def read_run(path):
    try:
        return json.loads((path / "run.json").read_text())
    except FileNotFoundError:
        return {"epochs_done": 0, "sessions": []}


def state_arrays(path):
    """All arrays of the saved state, by name."""
    (file,) = (path / "state").glob("*.weights.h5")
    arrays = {}

    def add(name, node):
        if isinstance(node, h5py.Dataset):
            arrays[name] = np.asarray(node)

    with h5py.File(file) as opened:
        opened.visititems(add)
    return arrays


def weight_arrays(file):
    model = keras.saving.load_model(file, compile=False)
    return dict(enumerate(model.get_weights()))


def are_equal(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--method", default="dtkd")
    parser.add_argument("--seed", type=int, help="seed of the times of the kills")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as scratch:
        result = run(args, rng, Path(scratch))
    path = RESULTS / f"kill_and_resume-{BACKEND}.json"
    path.write_text(json.dumps({**result, **environment_info()}, indent=1) + "\n")
    print(json.dumps(result["same"], indent=1), path)
    sys.exit(not all(result["same"].values()))


def run(args, rng, scratch):
    train_teacher = train_command(
        scratch, "--method", "ce", "--student", PAIR[0], "--epochs", "5"
    )
    subprocess.run(train_teacher, check=True)
    teacher = run_dir(scratch, "ce", PAIR[0])
    uninterrupted, killed = (
        run_dir(scratch / name, args.method, "-".join(PAIR))
        for name in ("uninterrupted", "killed")
    )
    start, first_epoch = time.perf_counter(), None
    process = subprocess.Popen(
        distill_command(args, scratch / "uninterrupted", teacher)
    )
    while process.poll() is None:
        if first_epoch is None and read_run(uninterrupted)["epochs_done"]:
            first_epoch = time.perf_counter() - start
        time.sleep(0.05)
    seconds = time.perf_counter() - start
    assert process.returncode == 0 and first_epoch is not None
    # Short enough that all sessions together do not finish the training.
    longest = 1.5 * (seconds - first_epoch) / args.kills
    kills = []
    for number in range(args.kills):
        # Three of ten kills during the start of the process, the others in training.
        early, wait = rng.random() < 0.3, rng.random()
        before = read_run(killed)["epochs_done"]
        process = subprocess.Popen(distill_command(args, scratch / "killed", teacher))
        while not early and process.poll() is None:
            if read_run(killed)["epochs_done"] > before:
                break
            time.sleep(0.02)
        time.sleep(wait * (first_epoch if early else longest))
        process.kill()
        if process.wait() != -signal.SIGKILL:
            sys.exit(f"The run ended before kill {number + 1}: pass more --epochs.")
        after = read_run(killed)["epochs_done"]
        kills.append({"while_starting": early, "epochs": [before, after]})
        print(f"killed, {early=}: epochs {before} to {after}", flush=True)
    subprocess.run(distill_command(args, scratch / "killed", teacher), check=True)
    both = uninterrupted, killed
    accuracies = [
        (run["val_accuracy"], run["result"]["best"], run["result"]["last"])
        for run in map(read_run, both)
    ]
    return {
        "same": {
            "student.keras": are_equal(
                *(weight_arrays(path / "student.keras") for path in both)
            ),
            "best.keras": are_equal(
                *(weight_arrays(path / "best.keras") for path in both)
            ),
            "state": are_equal(*map(state_arrays, both)),
            "accuracy of every epoch": accuracies[0] == accuracies[1],
        },
        "kills": kills,
        "epochs": args.epochs,
        "method": args.method,
        "arrays_in_state": len(state_arrays(uninterrupted)),
        "unbroken_seconds": seconds,
        "seconds_to_first_epoch": first_epoch,
    }


if __name__ == "__main__":
    main()
