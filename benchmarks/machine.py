"""The environment of a measurement: versions, processor, load, command."""

import importlib
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import keras

from keras_dtkd import backend

BACKEND = keras.backend.backend()


def environment_info():
    """Versions, processor, load, date and command, for the file of results."""
    packages = ("keras", "numpy", BACKEND, "keras_dtkd")
    return {
        "backend": BACKEND,
        "versions": {p: importlib.import_module(p).__version__ for p in packages},
        "python": platform.python_version(),
        "commit": _commit(),
        "device": backend.device_info()[0],
        "cpu": cpu(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "load": os.getloadavg()[0],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join([*_environment_variables(), "python", *sys.argv]),
    }


def _commit():
    """The commit of this code; of a copy without git that of KERAS_DTKD_COMMIT."""
    given = os.environ.get("KERAS_DTKD_COMMIT", "")
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    except OSError:
        return given
    return found or given


def save(result, name, output=None):
    """Writes the measurements to `output`, by default to a file in `results/`."""
    suffix = "" if result["device"].lower() == "cpu" else "-accelerator"
    path = Path(__file__).parent / "results" / f"{name}-{BACKEND}{suffix}.json"
    path = output or path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


def _environment_variables():
    """The environment variables that affect speed."""
    names = ("OMP_NUM_THREADS", "XLA_FLAGS", "CUDA_VISIBLE_DEVICES")
    values = {name: os.environ[name] for name in names if name in os.environ}
    return [f"{k}={v}" for k, v in {"KERAS_BACKEND": BACKEND, **values}.items()]


def cpu():
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor()
