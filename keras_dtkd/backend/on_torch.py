"""PyTorch, on its own or as one of several processes under `torchrun`."""

import contextlib
import os

import keras

from keras_dtkd import backend


def replicas():
    """One: each process has a step of its own."""
    return 1


def processes():
    """Those of `torch.distributed`, once it is initialized."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def clear_gradients(variables):
    """See `keras_dtkd.backend.clear_gradients`."""
    for variable in variables:
        variable.value.grad = None


def deterministic():
    """See `keras_dtkd.backend.deterministic`."""
    import torch

    # Read when a GPU is used for the first time; without it cuBLAS refuses.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)


def generator():
    """Of the CPU, and of the current GPU where Keras uses one."""
    import torch

    found = {"torch_cpu": torch.get_rng_state().numpy()}
    if _device().type == "cuda":
        found["torch_cuda"] = torch.cuda.get_rng_state().numpy()
    return found


def set_generator(states):
    """See `keras_dtkd.backend.set_generator`."""
    import torch

    if "torch_cpu" in states:
        torch.set_rng_state(torch.from_numpy(states["torch_cpu"]))
    if "torch_cuda" in states and _device().type == "cuda":
        torch.cuda.set_rng_state(torch.from_numpy(states["torch_cuda"]))


def device():
    """See `keras_dtkd.backend.device`."""
    import torch

    if _device().type != "cuda":
        return _device().type, None
    return torch.cuda.get_device_name(), torch.cuda.max_memory_allocated()


def no_gradient():
    """Torch's own."""
    import torch

    return torch.no_grad()


def building_scope(model):
    """Nothing."""
    return contextlib.nullcontext()


def speaker(teacher):
    """See `keras_dtkd.backend.speaker`."""
    return lambda x: backend.hear(teacher, x)


def tell(model, function, teacher):
    """No more than not to be interrupted: a step reads variables where they are."""
    return model.held.interrupts.whole(function)


def settle(model):
    """Nothing: they are never empty."""


def alone():
    """Nothing."""
    return contextlib.nullcontext()


def even():
    """Any batch can be split."""


@contextlib.contextmanager
def session(model, training):
    """While it trains, the model's gradients are those of all processes.

    What is evaluated in between, by a callback, is this process's alone.
    """
    held = model.held
    if processes()[1] == 1 or (training and held.ranks is not None):
        yield
        return
    before, held.ranks = held.ranks, Ranks(model) if training else None
    try:
        with held.ranks.averaging() if training else contextlib.nullcontext():
            yield
    finally:
        held.ranks = before


def gather(numbers):
    """A list of the same numbers from each process."""
    import torch

    here = torch.tensor(numbers, device=_device())
    everywhere = [torch.empty_like(here) for _ in range(processes()[1])]
    torch.distributed.all_gather(everywhere, here)
    return [values.tolist() for values in everywhere]


def begin(variables):
    """Gives all processes the variables of rank 0."""
    import torch

    for variable in variables:
        torch.distributed.broadcast(variable.value.data, 0)


def counted(model, loss, rows):
    """See `keras_dtkd.backend.counted`. The exchange of gradients is told."""
    if model.held.ranks is None:
        return loss
    model.held.ranks.rows = rows
    # Gradients in half precision are as large as those of one process: a scaled loss
    # overflows where it would there.
    part = loss / processes()[1]
    return part + (loss - part).detach()


def mean_of_devices(model, values, rows):
    """The means; `None` for one process. They belong to the first variables."""
    ranks = model.held.ranks
    return None if ranks is None else ranks.mean(values, rows)


@contextlib.contextmanager
def metrics_of_all(model):
    """Metric states summed over all processes, for as long as a result is read."""
    import torch

    held = model.held
    if held.ranks is None or held.in_step:
        yield
        return
    if not held.evaluating:
        held.ranks.end_epoch()
    values = [variable.value.data for variable in model.metrics_variables]
    own = [value.clone() for value in values]
    for value in values:
        torch.distributed.all_reduce(value)
    try:
        yield
    finally:
        for value, before in zip(values, own, strict=True):
            value.copy_(before)


class Ranks:
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
        total = total * processes()[1]
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
        self._nobody_waits(processes()[1])

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
            device=_device(),
        )
        parts = bucket.split([*sizes, 1, 1])
        for part, gradient in zip(parts[:-2], gradients, strict=True):
            if gradient is not None:
                part.copy_(gradient.reshape(-1)).mul_(rows * processes()[1])
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
                f"`Distiller`: {int(ended)} of {processes()[1]} processes have ended "
                "the epoch while others are still training. All must take equally "
                "many steps: cut arrays by `keras_dtkd.distribution.shard`, or pass "
                "`steps_per_epoch`. A callback may stop an epoch only in all of them."
            )


def _device():
    return keras.ops.convert_to_tensor(0.0).device
