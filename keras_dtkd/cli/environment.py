"""Versions, machine and memory of a process."""

import contextlib
import importlib.metadata
import os
import platform
import re
import sys
from pathlib import Path

from keras_dtkd import __version__, backend

PACKAGES = ("keras", "numpy", "tensorflow", "jax", "jaxlib", "torch")
VARIABLES = (
    *("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"),
    *("XLA_FLAGS", "CUDA_VISIBLE_DEVICES"),
)
PROC_STATUS = Path("/proc/self/status")


def environment_info(argv):
    """Versions, machine and command (the arguments `argv`), as plain data."""
    versions = {"python": platform.python_version(), "keras_dtkd": __version__}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "versions": versions,
        "device": backend.device_info()[0],
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        # `XLA_FLAGS` may have several lines, which a run.json has not.
        "environment": {
            n: " ".join(os.environ[n].split()) for n in VARIABLES if n in os.environ
        },
        "command": ["keras-dtkd", *argv],
    }


def peak_memory():
    """Peak main memory of this process in bytes, `None` on Windows."""
    # On Linux `ru_maxrss` includes the memory of the parent process, and of the program
    # that ran in this process before `exec`.
    status = PROC_STATUS.read_text() if PROC_STATUS.exists() else ""
    if match := re.search(r"VmHWM:\s*(\d+) kB", status):
        return 1024 * int(match[1])
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Bytes on macOS, kibibytes elsewhere.
    return peak if sys.platform == "darwin" else 1024 * peak
