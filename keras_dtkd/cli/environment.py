"""Where and with what a run was made."""

import importlib.metadata
import os
import platform
import re
import sys
from pathlib import Path

from keras_dtkd import __version__, backend

PACKAGES = ("keras", "numpy", "tensorflow", "jax", "jaxlib", "torch")
STATUS = Path("/proc/self/status")


def circumstances(words):
    """Versions, machine and command, as plain data.

    Args:
        words: The command line after `keras-dtkd`.
    """
    versions = {"python": platform.python_version(), "keras_dtkd": __version__}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    names = (
        *("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"),
        *("XLA_FLAGS", "CUDA_VISIBLE_DEVICES"),
    )
    return {
        "versions": versions,
        "device": backend.device_info()[0],
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "environment": {name: os.environ[name] for name in names if name in os.environ},
        "command": ["keras-dtkd", *words],
    }


def peak_memory():
    """The most bytes of main memory that this process used, `None` on Windows."""
    try:
        # On Linux `ru_maxrss` has that of the process too that started this one, and
        # of what ran in it before `exec`.
        found = re.search(r"VmHWM:\s*(\d+) kB", STATUS.read_text(encoding="utf-8"))
    except OSError:
        found = None
    if found:
        return 1024 * int(found[1])
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Bytes there, kibibytes elsewhere.
    return peak if sys.platform == "darwin" else 1024 * peak
