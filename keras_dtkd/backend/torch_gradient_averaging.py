"""Mean gradients of the processes of one training run under `torchrun`."""

import contextlib

import keras


def default_device():
    """The device that Keras puts tensors on."""
    return keras.ops.convert_to_tensor(0.0).device


class GradientAverager:
    """Averages the gradients of all processes on their way to the optimizer."""

    def __init__(self, model_state, world_size):
        self.world_size = world_size
        self.optimizer = model_state.optimizer
        self.variables = model_state.trainable_variables()
        # Samples of this process in the current step.
        self.local_batch_size = 0
        self._finished = None

    @contextlib.contextmanager
    def patched_optimizer(self):
        """A context in which the optimizer gets the mean gradients."""
        apply = self.optimizer.apply

        def apply_mean(gradients, variables):
            return apply(self._mean_gradients(gradients, variables), variables)

        self.optimizer.apply = apply_mean
        try:
            yield
        finally:
            del self.optimizer.apply

    def mean(self, values, batch_size):
        """The means over all samples, of one value for each of the first variables.

        None has more numbers than its variable.
        """
        # In a buffer as large as that of the gradients, because a process that ends its
        # epoch takes part with such a buffer.
        rest = [None] * (len(self.variables) - len(values))
        local = [*(value.detach() for value in values), *rest]
        *sums, total = self._all_reduce(local, self.variables, batch_size)
        total = total * self.world_size
        return [
            (weighted_sum[: value.numel()] / total).view_as(value)
            for weighted_sum, value in zip(sums, values, strict=False)
        ]

    def barrier_at_epoch_end(self):
        """A `RuntimeError` where other processes are still in a step."""
        nothing = [None] * len(self.variables)
        self._all_reduce(nothing, self.variables, rows=0, finished=1)
        self._check_in_step(self.world_size)

    def _mean_gradients(self, gradients, variables):
        rows = self.local_batch_size
        *sums, rows = self._all_reduce(gradients, variables, rows)
        return [
            None if local is None else local.copy_((total / rows).view_as(local))
            for local, total in zip(gradients, sums, strict=True)
        ]

    def _all_reduce(self, gradients, variables, rows, finished=0):
        """Sums over processes: gradients times rows, rows, 1 for a finished epoch."""
        import torch

        self._check_in_step(0)
        sizes = [variable.value.numel() for variable in variables]
        double = any(variable.value.dtype == torch.float64 for variable in variables)
        # Wide enough for a scaled loss's gradients times rows.
        dtype = torch.float64 if double else torch.float32
        buffer = torch.zeros(sum(sizes) + 2, dtype=dtype, device=default_device())
        *sums, total, finished_count = buffer.split([*sizes, 1, 1])
        for weighted_sum, gradient in zip(sums, gradients, strict=True):
            if gradient is not None:
                weighted_sum[: gradient.numel()].copy_(gradient.reshape(-1))
                weighted_sum.mul_(rows * self.world_size)
        total.fill_(rows)
        finished_count.fill_(finished)
        torch.distributed.all_reduce(buffer)
        self._finished = finished_count
        return *sums, total

    def _check_in_step(self, expected):
        # Read when the next exchange is due, so that a step waits for no device.
        finished, self._finished = self._finished, None
        if finished is not None and int(finished) != expected:
            raise RuntimeError(
                f"`Distiller`: {int(finished)} of {self.world_size} processes "
                "have ended the epoch while others are still training. All must take "
                "equally many steps: cut arrays by `keras_dtkd.distribution.shard`, or "
                "pass `steps_per_epoch`. A callback may stop an epoch only in all of "
                "them."
            )
