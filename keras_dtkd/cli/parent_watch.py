"""A process that ends with the one that started it."""

import os
import threading

# In the environment of a process whose stdin is such a leash.
ON = {"KERAS_DTKD_LEASH": "1"}


def follow():
    """From now on this process ends when the other end of its stdin is closed.

    Whatever ends its parent closes it, SIGKILL too, on every system.
    """
    if ON.items() <= os.environ.items():
        threading.Thread(target=_wait, daemon=True).start()


def _wait():
    # Not `sys.stdin`, whose lock a daemon thread would hold at the end.
    while os.read(0, 1):
        pass
    # As SIGKILL does it: no run minds.
    os._exit(1)
