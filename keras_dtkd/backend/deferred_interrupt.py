"""Ctrl-C while a step runs."""

import contextlib
import signal
import threading
from typing import Any


class DeferredInterrupt:
    """Keeps Ctrl-C from tearing a step in two, and from being lost in one.

    A compiled JAX step consumes the state it is given: an interrupt between its end
    and the moment Keras holds the new state would lose the student's weights. Under
    TensorFlow and PyTorch, native code that asks Python something swallows the
    exception now and then, and the run goes on. So an interrupt waits until the batch
    is over, and one that was swallowed comes again there. A second one does not wait.
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
        wait = self._critical and not self._waiting
        # Until the run ends: whoever swallows it does not keep it.
        self._waiting = True
        if not wait:
            self._previous(number, frame)

    def whole(self, function):
        """The function of a step that leaves its state where it is, undivided."""

        def step(*args):
            self._critical = self._previous is not None
            try:
                result = function(*args)
            except BaseException:
                self.batch_over(failed=True)
                raise
            self.batch_over()
            return result

        return step

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
