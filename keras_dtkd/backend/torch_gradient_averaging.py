"""What the processes of one training run under `torchrun` tell each other."""

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
    """What the processes of one training run tell each other.

    Keras has no distribution under torch. Here gradients are exchanged on their way
    to the optimizer, all of them at once, so that the training step stays Keras's own.

    Args:
        model: The Distiller.

    Attributes:
        rows: How many samples this process has in the current step.
    """

    def __init__(self, model):
        self.model = model
        self.rows = 0
        self._ended = None

    @contextlib.contextmanager
    def averaging(self):
        """While it is open, the optimizer gets the mean gradients of all processes."""
        optimizer = self.model.optimizer
        apply = optimizer.apply

        def apply_mean(gradients, variables):
            return apply(self._mean(gradients, variables), variables)

        optimizer.apply = apply_mean
        try:
            yield
        finally:
            del optimizer.apply

    def mean(self, values, rows):
        """The means over all samples, of one value for each of the first variables.

        In a bucket as large as that of the gradients, so that a process which ends
        its epoch meets it there.
        """
        variables = self.model.trainable_variables
        rest = [None] * (len(variables) - len(values))
        own = [value.detach() for value in values]
        *sums, total, _ = self._exchange([*own, *rest], variables, rows, ended=0)
        total = total * rank_and_world_size()[1]
        return [
            (part / total).view_as(value)
            for part, value in zip(sums, values, strict=False)
        ]

    def end_epoch(self):
        """Meets all other processes at the end of an epoch.

        Raises:
            RuntimeError: Some of them are still in a step.
        """
        variables = self.model.trainable_variables
        self._exchange([None] * len(variables), variables, 0, ended=1)
        self._nobody_waits(rank_and_world_size()[1])

    def _mean(self, gradients, variables):
        *sums, rows, _ = self._exchange(gradients, variables, self.rows, ended=0)
        return [
            None if own is None else own.copy_((total / rows).view_as(own))
            for own, total in zip(gradients, sums, strict=True)
        ]

    def _exchange(self, gradients, variables, rows, ended):
        """Sums over all processes: gradients times rows, rows, who ended the epoch."""
        import torch

        self._nobody_waits(0)
        sizes = [variable.value.numel() for variable in variables]
        double = any(variable.value.dtype == torch.float64 for variable in variables)
        bucket = torch.zeros(
            sum(sizes) + 2,
            # Wide enough for a scaled loss's gradients times rows.
            dtype=torch.float64 if double else torch.float32,
            device=default_device(),
        )
        parts = bucket.split([*sizes, 1, 1])
        for part, gradient in zip(parts[:-2], gradients, strict=True):
            if gradient is not None:
                part.copy_(gradient.reshape(-1)).mul_(rows * rank_and_world_size()[1])
        parts[-2].fill_(rows)
        parts[-1].fill_(ended)
        torch.distributed.all_reduce(bucket)
        self._ended = parts[-1]
        return parts

    def _nobody_waits(self, expected):
        # Read when the next exchange is due, so that a step waits for no device.
        ended, self._ended = self._ended, None
        if ended is not None and int(ended) != expected:
            raise RuntimeError(
                f"`Distiller`: {int(ended)} of {rank_and_world_size()[1]} processes have ended "
                "the epoch while others are still training. All must take equally "
                "many steps: cut arrays by `keras_dtkd.distribution.sharding.shard`, or pass "
                "`steps_per_epoch`. A callback may stop an epoch only in all of them."
            )
