"""Runs scripts of the repository as a user would."""

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


def started(*command, **settings):
    """The finished process of a script, on the backend of the tests."""
    return subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "KERAS_BACKEND": keras.config.backend(), **settings},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


def run(*command, **settings):
    """What a script prints that ends well."""
    done = started(*command, **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
