"""Starts workers, and ends them all when one hangs or fails."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np

WORKERS = Path(__file__).parent / "workers"
ROOT = Path(__file__).parents[2]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def launch(commands, folder, timeout=240, **environment):
    """Runs Python with these arguments, all at once, and waits for them.

    Args:
        commands: A list of argument lists; each begins with a worker's file, or `-m`.
        folder: For what they print.
        timeout: Seconds, after which a hang is a failure.
        **environment: Environment variables on top of this process's.
    """
    environment = {
        **os.environ,
        "KERAS_BACKEND": keras.config.backend(),
        "PYTHONPATH": str(ROOT),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "OMP_NUM_THREADS": "1",
        **environment,
    }
    logs = [folder / f"log{number}.txt" for number in range(len(commands))]
    running = [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env=environment,
            cwd=folder,
            stdout=log.open("w"),
            stderr=subprocess.STDOUT,
        )
        for command, log in zip(commands, logs, strict=True)
    ]
    end = time.monotonic() + timeout
    try:
        while None in (codes := [process.poll() for process in running]):
            if any(codes) or time.monotonic() > end:
                break
            time.sleep(0.05)
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
            process.wait()
    text = "\n".join(log.read_text()[-6000:] for log in logs)
    assert codes == [0] * len(codes), f"exit codes {codes} (None: hung)\n{text}"


class Found:
    """What one worker process reported."""

    def __init__(self, folder, rank=0):
        self.found = json.loads((folder / f"rank{rank}.json").read_text())
        self._arrays = np.load(folder / f"rank{rank}.npz")

    def __getitem__(self, name):
        return self.found[name]

    def state(self, name):
        count = sum(key.startswith(f"{name}/") for key in self._arrays)
        return [self._arrays[f"{name}/{number}"] for number in range(count)]


def assert_same(found, expected, atol=1e-5):
    """Equal state: lists of arrays."""
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=atol)


def assert_same_logs(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5)
