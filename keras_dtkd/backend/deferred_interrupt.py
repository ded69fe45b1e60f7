"""Ctrl-C while a step runs."""

import contextlib
import signal
import threading
from typing import Any


class DeferredInterrupt:
    """Defers Ctrl-C to the end of a step. A second one does not wait.

    A compiled JAX step consumes its state: an interrupt between its end and the moment
    Keras holds the new state would lose the student's weights. Under TensorFlow and
    PyTorch, native code that reads a Python attribute may swallow the exception.
    """

    def __init__(self):
        self._is_deferring = self._is_pending = False
        self._previous_handler: Any = None

    @contextlib.contextmanager
    def installed(self):
        """Installs the handler while `fit` runs, in the main thread alone."""
        previous = signal.getsignal(signal.SIGINT)
        is_main = threading.current_thread() is threading.main_thread()
        is_installed = self._previous_handler is not None
        if not is_main or not callable(previous) or is_installed:
            yield
            return
        self._previous_handler = previous
        signal.signal(signal.SIGINT, self._on_signal)
        try:
            yield
            self.raise_pending()
        finally:
            signal.signal(signal.SIGINT, previous)
            self._previous_handler = None
            self._is_deferring = self._is_pending = False

    def _on_signal(self, number, frame):
        defer = self._is_deferring and not self._is_pending
        self._is_pending = True
        if not defer:
            self._previous_handler(number, frame)

    def protect_step(self, function):
        """The step function, during which an interrupt waits."""

        def step(*args):
            self.start_deferring()
            try:
                result = function(*args)
            except BaseException:
                self.raise_pending(has_failed=True)
                raise
            self.raise_pending()
            return result

        return step

    def protect_iterator(self, iterator):
        """The iterator of a step, which begins once the first batch is there."""
        for batch in iterator:
            self.start_deferring()
            yield batch

    def start_deferring(self):
        self._is_deferring = self._previous_handler is not None

    def raise_pending(self, has_failed=False):
        """Raises a pending interrupt after a step, unless another exception did."""
        self._is_deferring = False
        if self._is_pending and not has_failed:
            self._is_pending = False
            raise KeyboardInterrupt
