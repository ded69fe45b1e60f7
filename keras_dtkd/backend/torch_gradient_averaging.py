"""Mean gradients of the processes of one training run under `torchrun`."""

import contextlib

import keras


def default_device():
    """The device that Keras puts tensors on."""
    # A number would be copied there, which waits for the device.
    return keras.ops.empty(()).device


class GradientAverager:
    """Averages the gradients of all processes on their way to the optimizer."""

    def __init__(self, model_state, world_size):
        self.world_size = world_size
        self.optimizer = model_state.optimizer
        # Samples of this process in the current step.
        self.local_batch_size = 0

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
        """The means over all samples, of tensors that all processes have."""
        means = self._mean([value.detach() for value in values], batch_size)
        return [mean.to(value.dtype) for mean, value in zip(means, values, strict=True)]

    def barrier_at_epoch_end(self):
        """A `RuntimeError` where other processes are still in a step."""
        self._sum_rows(0, is_finished=True)

    def _mean_gradients(self, gradients, variables):
        import torch

        pairs = zip(gradients, variables, strict=True)
        filled = [torch.zeros_like(v.value) if g is None else g for g, v in pairs]
        means = self._mean(filled, self.local_batch_size)
        return [
            # Each process has divided its loss by their number.
            None if gradient is None else gradient.copy_(mean * self.world_size)
            for gradient, mean in zip(gradients, means, strict=True)
        ]

    def _mean(self, values, rows):
        import torch

        total = self._sum_rows(rows)
        double = any(value.dtype == torch.float64 for value in values)
        # Wide enough for a scaled loss's gradients times rows.
        dtype = torch.float64 if double else torch.float32
        buffer = torch.cat([value.reshape(-1).to(dtype) for value in values])
        buffer.mul_(rows)
        torch.distributed.all_reduce(buffer)
        buffer.div_(total)
        sizes = [value.numel() for value in values]
        parts = zip(buffer.split(sizes), values, strict=True)
        return [part.view_as(value) for part, value in parts]

    def _sum_rows(self, rows, is_finished=False):
        """The samples of all processes in this step.

        These numbers come before anything large: a process that ends its epoch takes
        part too, so that where others go on it is an error in all of them.
        """
        import torch

        buffer = torch.tensor([rows, is_finished], dtype=torch.int64)
        buffer = buffer.to(default_device())
        torch.distributed.all_reduce(buffer)
        total, finished = buffer.tolist()
        if finished != is_finished * self.world_size:
            raise RuntimeError(
                f"`Distiller`: {finished} of {self.world_size} processes have ended "
                "the epoch while others are still training. All must take equally many "
                "steps: cut arrays by `keras_dtkd.distribution.shard`, or pass "
                "`steps_per_epoch`. A callback may stop an epoch only in all of them."
            )
        return total
