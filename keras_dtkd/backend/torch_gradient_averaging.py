"""Mean gradients of the processes of one training run under `torchrun`."""

import contextlib

import keras


def rank_and_world_size():
    """Those of `torch.distributed`, once it is initialized."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def default_device():
    """The device that Keras puts tensors on."""
    return keras.ops.convert_to_tensor(0.0).device


class GradientAverager:
    """Averages the gradients of all processes on their way to the optimizer.

    Keras has no distribution under torch. All gradients are exchanged at once, and the
    training step stays Keras's own.
    """

    def __init__(self, parts):
        self.optimizer = parts.optimizer
        self.variables = parts.trainable_variables()
        # Samples of this process in the current step.
        self.local_batch_size = 0
        self._finished = None

    @contextlib.contextmanager
    def patch_optimizer(self):
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

        In a buffer as large as that of the gradients, because a process that ends its
        epoch takes part with such a buffer.
        """
        rest = [None] * (len(self.variables) - len(values))
        local = [value.detach() for value in values]
        *sums, total, _ = self._all_reduce(
            [*local, *rest], self.variables, batch_size, finished=0
        )
        total = total * rank_and_world_size()[1]
        return [
            (part / total).view_as(value)
            for part, value in zip(sums, values, strict=False)
        ]

    def barrier_at_epoch_end(self):
        """A `RuntimeError` where other processes are still in a step."""
        nothing = [None] * len(self.variables)
        self._all_reduce(nothing, self.variables, 0, finished=1)
        self._check_in_step(rank_and_world_size()[1])

    def _mean_gradients(self, gradients, variables):
        *sums, rows, _ = self._all_reduce(
            gradients, variables, self.local_batch_size, finished=0
        )
        return [
            None if local is None else local.copy_((total / rows).view_as(local))
            for local, total in zip(gradients, sums, strict=True)
        ]

    def _all_reduce(self, gradients, variables, rows, finished):
        """Sums over processes: gradients times rows, rows, 1 for a finished epoch."""
        import torch

        self._check_in_step(0)
        sizes = [variable.value.numel() for variable in variables]
        double = any(variable.value.dtype == torch.float64 for variable in variables)
        buffer = torch.zeros(
            sum(sizes) + 2,
            # Wide enough for a scaled loss's gradients times rows.
            dtype=torch.float64 if double else torch.float32,
            device=default_device(),
        )
        parts = buffer.split([*sizes, 1, 1])
        for part, gradient in zip(parts[:-2], gradients, strict=True):
            if gradient is not None:
                part.copy_(gradient.reshape(-1)).mul_(rows * rank_and_world_size()[1])
        parts[-2].fill_(rows)
        parts[-1].fill_(finished)
        torch.distributed.all_reduce(buffer)
        self._finished = parts[-1]
        return parts

    def _check_in_step(self, expected):
        # Read when the next exchange is due, so that a step waits for no device.
        finished, self._finished = self._finished, None
        if finished is not None and int(finished) != expected:
            raise RuntimeError(
                f"`Distiller`: {int(finished)} of {rank_and_world_size()[1]} processes "
                "have ended the epoch while others are still training. All must take "
                "equally many steps: cut arrays by `keras_dtkd.distribution.shard`, or "
                "pass `steps_per_epoch`. A callback may stop an epoch only in all of "
                "them."
            )
