"""What a run says of where it was made."""

import os
import subprocess
import sys

import pytest

from keras_dtkd.cli import environment

GIB = 2**30
BEFORE = """
import os, sys
filled = b"x" * 2**30
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""
AFTER = """
from keras_dtkd.cli.environment import peak_memory
print(peak_memory())
"""


@pytest.mark.skipif(not environment.STATUS.exists(), reason="elsewhere nobody tells")
def test_the_memory_of_what_started_a_run_is_not_the_runs():
    """As `--backend` starts the command again, and `compare` starts runs."""
    run = [sys.executable, "-c", BEFORE, AFTER]
    said = subprocess.run(run, capture_output=True, text=True, check=True)
    assert 10**7 < int(said.stdout.split()[-1]) < GIB


def test_without_the_systems_status_the_memory_is_told_too(monkeypatch, tmp_path):
    monkeypatch.setattr(environment, "STATUS", tmp_path / "none")
    found = environment.peak_memory()
    assert found is None if os.name == "nt" else found > 10**7
