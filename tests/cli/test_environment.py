"""Versions, machine and memory in run.json."""

import os
import subprocess
import sys

import pytest

from keras_dtkd.cli import environment

GIB = 2**30
PARENT = """
import os, sys
memory = b"x" * 2**30
os.execv(sys.executable, [sys.executable, "-c", *sys.argv[1:]])
"""
# Without the package, which imports a backend for seconds.
CHILD = """
import runpy, sys, types
sys.modules["keras_dtkd"] = types.SimpleNamespace(__version__="", backend=None)
print(runpy.run_path(sys.argv[1])["peak_memory"]())
"""


@pytest.mark.skipif(not environment.PROC_STATUS.exists(), reason="Linux only")
def test_peak_memory_excludes_the_process_before_exec():
    """`--backend` replaces the process by `exec`, and `compare` starts runs."""
    command = [sys.executable, "-c", PARENT, CHILD, environment.__file__]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 10**6 < int(process.stdout.split()[-1]) < GIB


def test_peak_memory_without_proc_status(monkeypatch, tmp_path):
    monkeypatch.setattr(environment, "PROC_STATUS", tmp_path / "none")
    peak = environment.peak_memory()
    assert peak is None if os.name == "nt" else peak > 10**7
