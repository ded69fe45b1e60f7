"""States and actions of the latest training steps, readable between steps."""

import keras
import numpy as np
from keras import ops


class RolloutBuffer(keras.layers.Layer):
    """Stores state and action of each sample of the last `num_steps` steps.

    In weights, because nothing else outlives a compiled step. `is_sampling` is 1 while
    the policy samples its actions and steps are recorded, else 0. At most `capacity`
    samples per step, of `width` numbers: state and action.
    """

    def __init__(self, num_steps, capacity, width):
        super().__init__(name="rollout_buffer", dtype="float32", autocast=False)
        self.capacity = capacity
        # For the error about a large batch, before a step is compiled.
        self._is_recording = True
        self.is_sampling = self._add_state("is_sampling", ())
        self._num_calls = self._add_state("num_calls", ())
        # One row more than the capacity, which is filled if a batch is too large.
        self._rows = self._add_state("rows", (num_steps, capacity + 1, width + 1))
        self.built = True

    def _add_state(self, name, shape):
        return self.add_weight(
            shape=shape, initializer="zeros", trainable=False, name=name
        )

    def reset(self, is_sampling):
        """Clears the buffer between steps, and states whether the next are recorded."""
        self._is_recording = bool(is_sampling)
        self.is_sampling.assign(1.0 if is_sampling else 0.0)
        self._num_calls.assign(0.0)

    def add(self, rows, sample_weight=None):
        """Records `rows`, `(..., width)`, inside a step, if the policy is sampling.

        Samples of weight 0 are left out. A batch above the capacity is a `ValueError`.
        """
        num_steps, num_rows, width = self._rows.shape
        rows = ops.reshape(rows, (-1, width - 1))
        count = rows.shape[0]
        if self._is_recording and count is not None and count > self.capacity:
            raise ValueError(self._capacity_error())
        is_valid = ops.ones_like(rows[:, :1])
        if sample_weight is not None:
            is_valid = ops.cast(ops.reshape(sample_weight, (-1, 1)) > 0, "float32")
        rows = ops.stop_gradient(ops.concatenate([rows, is_valid], axis=-1))
        # One shape for batches of any size, which may be unknown while tracing.
        rows = ops.concatenate([rows, ops.zeros((num_rows, width))], axis=0)[:num_rows]
        is_current = ops.equal(ops.arange(num_steps, dtype="float32"), self._num_calls)
        is_current = ops.logical_and(is_current, self.is_sampling > 0)[:, None, None]
        previous = ops.convert_to_tensor(self._rows)
        self._rows.assign(ops.where(is_current, rows[None], previous))
        self._num_calls.assign(self._num_calls + self.is_sampling)

    def pop(self, num_steps):
        """The samples since the last `pop` or `reset`, NumPy `(rows, width)`.

        A `RuntimeError` unless there were `num_steps` calls with batches that fit.
        """
        num_calls = int(ops.convert_to_numpy(self._num_calls))
        if num_calls != num_steps:
            raise RuntimeError(
                f"`Policy`: called {num_calls} times in {num_steps} steps. Give each "
                "loss, and each metric that calls the temperature in training, a "
                "policy of its own."
            )
        rows = np.array(ops.convert_to_numpy(self._rows))[:num_steps]
        if rows[:, -1, -1].any():
            raise RuntimeError(self._capacity_error())
        self._num_calls.assign(0.0)
        return rows[rows[..., -1] > 0][:, :-1]

    def _capacity_error(self):
        return (
            f"`Policy`: a batch has more than capacity={self.capacity} samples or "
            "positions. Raise `capacity`."
        )
