"""Runs the repository's scripts in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import keras

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
SMOKE_RUN = {
    "KERAS_DTKD_QUICK": "1",
    "MPLBACKEND": "agg",
    "PYTHONIOENCODING": "utf-8",
}


def start_script(*command, **environment):
    """The finished process of a script, on the backend of the tests."""
    return subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "KERAS_BACKEND": keras.config.backend(), **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


def run_script(*command, **environment):
    """The printed output of a script, which must succeed."""
    process = start_script(*command, **environment)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout
