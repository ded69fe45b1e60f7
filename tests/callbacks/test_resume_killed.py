"""Invariant 8 under SIGKILL, in processes of their own."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from keras_dtkd.callbacks import Resume
from tests.callbacks.test_resume import run, state
from tests.tiny_models import same

pytestmark = pytest.mark.invariant(number=8)

PROGRAM = """
    import sys
    from tests.callbacks.test_resume import run
    from tests.callbacks.test_resume_killed import save

    save(run(sys.argv[1], epochs=EPOCHS)[0], sys.argv[1] + ".npz")
"""


def save(d, path):
    np.savez(path, *state(d))


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
def test_a_killed_run_goes_on_bit_for_bit(tmp_path):
    epochs, folder = 40, tmp_path / "broken"
    program = textwrap.dedent(PROGRAM.replace("EPOCHS", str(epochs)))
    command = [sys.executable, "-c", program, str(folder)]
    # benchmarks/kill_and_resume.py kills more often.
    for alive_until in (15, None):
        process = subprocess.Popen(command)
        while process.poll() is None:
            if alive_until and Resume(folder).epoch >= alive_until:
                process.kill()
            time.sleep(0.01)
        assert process.returncode == (-signal.SIGKILL if alive_until else 0)
    d, _ = run(tmp_path / "unbroken", epochs=epochs)
    with np.load(f"{folder}.npz") as file:
        assert same(state(d), [file[name] for name in file.files])
