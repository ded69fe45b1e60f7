"""Ends a process when its parent ends."""

import os
import threading

# In the environment of a process whose stdin is a pipe held open by its parent.
ENV = {"KERAS_DTKD_EXIT_WITH_PARENT": "1"}


def exit_with_parent():
    """Ends this process when the other end of its stdin is closed.

    The operating system closes it however the parent ends, SIGKILL included. No-op
    without the variable of `ENV`.
    """
    if ENV.items() <= os.environ.items():
        threading.Thread(target=_watch_stdin, daemon=True).start()


def _watch_stdin():
    # Not `sys.stdin`: a daemon thread would hold its lock at interpreter shutdown.
    while os.read(0, 1):
        pass
    # As abrupt as SIGKILL, which every run survives.
    os._exit(1)
