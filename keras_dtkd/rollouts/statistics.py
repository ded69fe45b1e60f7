"""What is logged of rollouts."""

import time
from typing import Any

import keras
from keras import ops

from keras_dtkd.core.hooks import FitCallback


class RolloutStatistics(keras.metrics.Metric):
    """Length and acceptance of the sequences of an epoch.

    Args:
        max_length: That of the rollout.
        has_acceptance: Whether two models take part.

    Result:
        A dict: `generated_length`, tokens a sequence; `generated_tokens`, their number;
        with `has_acceptance`, `acceptance`, the share of tokens that are the student's.
    """

    def __init__(self, max_length, has_acceptance, name="rollout"):
        super().__init__(name=name)
        self.max_length, self.has_acceptance = max_length, has_acceptance
        self.sequences = self.add_variable((), "zeros", name="sequences")
        # By position in the response, from 0.
        shape = (max_length,)
        self.tokens = self.add_variable(shape, "zeros", name="tokens")
        self.accepted = self.add_variable(shape, "zeros", name="accepted")

    def update_state(self, generated, accepted=None):
        """Adds a batch: booleans, `(batch, max_length)`, as in a `RolloutResult`."""
        self.sequences.assign_add(ops.cast(ops.shape(generated)[0], "float32"))
        positions = ops.cumsum(ops.cast(generated, "int32"), axis=1) - 1
        positions = ops.reshape(ops.maximum(positions, 0), (-1,))

        def count(tokens):
            tokens = ops.reshape(ops.cast(tokens, "float32"), (-1,))
            size = self.tokens.shape[0]
            return ops.segment_sum(tokens, positions, num_segments=size)

        self.tokens.assign_add(count(generated))
        if accepted is not None:
            self.accepted.assign_add(count(accepted))

    def result(self):
        tokens = ops.sum(self.tokens)
        results = {
            "generated_length": tokens / ops.maximum(self.sequences, 1.0),
            "generated_tokens": tokens,
        }
        if self.has_acceptance:
            acceptance = ops.sum(self.accepted) / ops.maximum(tokens, 1.0)
            results["acceptance"] = acceptance
        return results

    def acceptance_by_position(self):
        """The share of accepted tokens at each position of a response, NumPy.

        NaN where there were none. `(max_length,)`.
        """
        tokens = ops.convert_to_numpy(self.tokens)
        accepted = ops.convert_to_numpy(self.accepted)
        with_tokens = tokens > 0
        shares = accepted / tokens.clip(1)
        shares[~with_tokens] = float("nan")
        return shares


class RolloutCallback(FitCallback):
    """Logs `tokens_per_second`, and notes the acceptance by position of each epoch.

    The time is that of the training steps, without validation.
    """

    def __init__(self, rollout, statistics):
        super().__init__()
        self._rollout, self._statistics = rollout, statistics
        self._start: Any = None
        self._seconds: Any = None

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_test_begin(self, logs=None):
        """Validation resets the statistics."""
        self._read()

    def on_epoch_end(self, epoch, logs=None):
        self._read()
        if logs is not None:
            # Of all processes.
            tokens = float(logs.get("generated_tokens", 0.0))
            logs["tokens_per_second"] = tokens / self._seconds

    def _read(self):
        if self._start is None:
            return
        self._seconds, self._start = time.perf_counter() - self._start, None
        if self._statistics.has_acceptance:
            shares = self._statistics.acceptance_by_position()
            self._rollout.acceptance_by_position = shares
