"""Ctrl-C while a step consumes its own state."""

import contextlib
import signal
import threading
from typing import Any


class Interrupts:
    """Keeps Ctrl-C from tearing a JAX step in two.

    A compiled step consumes the state it is given. An interrupt between its end and
    the moment Keras holds the new state would lose the student's weights. So it
    waits until the batch is over. A second one does not wait.
    """

    def __init__(self):
        self._critical = False
        self._waiting = False
        self._previous: Any = None

    @contextlib.contextmanager
    def deferred(self):
        """While `fit` runs, in the main thread: no other is sent signals."""
        previous = signal.getsignal(signal.SIGINT)
        main = threading.current_thread() is threading.main_thread()
        if not main or not callable(previous) or self._previous is not None:
            yield
            return
        self._previous = previous
        signal.signal(signal.SIGINT, self._on_signal)
        try:
            yield
            self.batch_over()
        finally:
            signal.signal(signal.SIGINT, previous)
            self._previous, self._critical, self._waiting = None, False, False

    def _on_signal(self, number, frame):
        if self._critical and not self._waiting:
            self._waiting = True
        else:
            self._waiting = False
            self._previous(number, frame)

    def watch(self, iterator):
        """The iterator of one step. Once its first batch is there, the step begins."""
        for batch in iterator:
            self._critical = self._previous is not None
            yield batch

    def batch_over(self, failed=False):
        """Keras holds the new state: an interrupt that waited comes now."""
        self._critical = False
        if self._waiting and not failed:
            self._waiting = False
            raise KeyboardInterrupt
