"""What a policy drew in the latest steps, where it can be read between them."""

import keras
import numpy as np
from keras import ops


class RolloutBuffer(keras.layers.Layer):
    """Keeps state and action of each sample of the last few steps, in weights.

    Weights, because a compiled step leaves nothing else behind.

    Args:
        steps: For how many steps there is room.
        capacity: For how many samples of each.
        width: Numbers of a sample: state and action.

    Attributes:
        exploring: 1 where the steps to come are kept, and actions drawn; else 0.
    """

    def __init__(self, steps, capacity, width, name="transitions"):
        super().__init__(name=name, dtype="float32", autocast=False)
        self.capacity = capacity
        # For a batch too large, before a step is compiled.
        self._keeping = True
        self.exploring = self._state("exploring", ())
        self._calls = self._state("calls", ())
        # One row more than there may be, which tells of a batch too large.
        self._rows = self._state("rows", (steps, capacity + 1, width + 1))
        self.built = True

    def _state(self, name, shape):
        return self.add_weight(
            shape=shape, initializer="zeros", trainable=False, name=name
        )

    def begin(self, exploring):
        """Between steps: forgets what was kept.

        Args:
            exploring: Whether the steps to come are kept.
        """
        self._keeping = bool(exploring)
        self.exploring.assign(1.0 if exploring else 0.0)
        self._calls.assign(0.0)

    def keep(self, rows, sample_weight=None):
        """In a step: keeps it, if the policy explores.

        Args:
            rows: `(..., width)`.
            sample_weight: Rows of weight 0 are left out, `(...)`. Optional.
        """
        slots, room, width = self._rows.shape
        rows = ops.reshape(rows, (-1, width - 1))
        count = rows.shape[0]
        if self._keeping and count is not None and count > self.capacity:
            raise ValueError(self._too_many())
        there = ops.ones_like(rows[:, :1])
        if sample_weight is not None:
            there = ops.cast(ops.reshape(sample_weight, (-1, 1)) > 0, "float32")
        rows = ops.stop_gradient(ops.concatenate([rows, there], axis=-1))
        # Batches of all sizes become one shape, without asking for the size.
        rows = ops.concatenate([rows, ops.zeros((room, width))], axis=0)[:room]
        now = ops.equal(ops.arange(slots, dtype="float32"), self._calls)
        now = ops.logical_and(now, self.exploring > 0)[:, None, None]
        before = ops.convert_to_tensor(self._rows)
        self._rows.assign(ops.where(now, rows[None], before))
        self._calls.assign(self._calls + self.exploring)

    def take(self, steps):
        """Between steps: what was kept since the last time.

        Args:
            steps: How many steps there were.

        Returns:
            `(rows, width)`, NumPy.

        Raises:
            RuntimeError: The rule was called more often, or a batch was too large.
        """
        calls = int(ops.convert_to_numpy(self._calls))
        if calls != steps:
            raise RuntimeError(
                f"`Policy`: called {calls} times in {steps} steps. Give each loss, and "
                "each metric that calls the rule in training, a policy of its own."
            )
        rows = np.array(ops.convert_to_numpy(self._rows))[:steps]
        if rows[:, -1, -1].any():
            raise RuntimeError(self._too_many())
        self._calls.assign(0.0)
        return rows[rows[..., -1] > 0][:, :-1]

    def _too_many(self):
        return (
            f"`Policy`: a batch has more than capacity={self.capacity} samples or "
            "positions. Raise `capacity`."
        )
