"""PyTorch, on its own or as one of several processes under `torchrun`."""

import contextlib
import os

from keras_dtkd import backend
from keras_dtkd.backend.torch_gradient_averaging import GradientAverager, default_device
from keras_dtkd.backend.torch_gradient_averaging import (
    rank_and_world_size as rank_and_world_size,
)


def replicas():
    """One: each process has a step of its own."""
    return 1


def zero_grad(variables):
    """See `keras_dtkd.backend.zero_grad`."""
    for variable in variables:
        variable.value.grad = None


def enable_determinism():
    """See `keras_dtkd.backend.enable_determinism`."""
    import torch

    # Read when a GPU is used for the first time; without it cuBLAS refuses.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)


def get_rng_state():
    """Of the CPU, and of the current GPU where Keras uses one."""
    import torch

    found = {"torch_cpu": torch.get_rng_state().numpy()}
    if default_device().type == "cuda":
        found["torch_cuda"] = torch.cuda.get_rng_state().numpy()
    return found


def set_rng_state(states):
    """See `keras_dtkd.backend.set_rng_state`."""
    import torch

    if "torch_cpu" in states:
        torch.set_rng_state(torch.from_numpy(states["torch_cpu"]))
    if "torch_cuda" in states and default_device().type == "cuda":
        torch.cuda.set_rng_state(torch.from_numpy(states["torch_cuda"]))


def device_info():
    """See `keras_dtkd.backend.device_info`."""
    import torch

    if default_device().type != "cuda":
        return default_device().type, None
    return torch.cuda.get_device_name(), torch.cuda.max_memory_allocated()


def runs_channels_first():
    """True on every device."""
    return True


def no_grad():
    """Torch's own."""
    import torch

    return torch.no_grad()


def building_scope(model):
    """Nothing."""
    return contextlib.nullcontext()


def compiled_teacher_forward(teacher):
    """See `keras_dtkd.backend.compiled_teacher_forward`."""
    return lambda x: backend.teacher_forward(teacher, x)


def with_teacher_variables(model, function, teacher):
    """No more than not to be interrupted: a step reads variables where they are."""
    return model.held.interrupts.whole(function)


def sync_variables(model):
    """Nothing: they are never empty."""


def single_process_scope():
    """Nothing."""
    return contextlib.nullcontext()


def batch_divisor():
    """Any batch can be split."""


@contextlib.contextmanager
def training_session(model, training):
    """While it trains, the model's gradients are those of all processes.

    What is evaluated in between, by a callback, is this process's alone.
    """
    held = model.held
    if rank_and_world_size()[1] == 1 or (training and held.ranks is not None):
        yield
        return
    before, held.ranks = held.ranks, GradientAverager(model) if training else None
    try:
        with held.ranks.averaging() if training else contextlib.nullcontext():
            yield
    finally:
        held.ranks = before


def gather(numbers):
    """A list of the same numbers from each process."""
    import torch

    own = torch.tensor(numbers, device=default_device())
    everywhere = [torch.empty_like(own) for _ in range(rank_and_world_size()[1])]
    torch.distributed.all_gather(everywhere, own)
    return [values.tolist() for values in everywhere]


def synchronize_processes(variables):
    """Gives all processes the variables of rank 0."""
    import torch

    for variable in variables:
        torch.distributed.broadcast(variable.value.data, 0)


def weight_loss_by_batch_share(model, loss, rows):
    """See `keras_dtkd.backend.weight_loss_by_batch_share`. The exchange of gradients is told."""
    if model.held.ranks is None:
        return loss
    model.held.ranks.rows = rows
    # Gradients in half precision are as large as those of one process: a scaled loss
    # overflows where it would there.
    part = loss / rank_and_world_size()[1]
    return part + (loss - part).detach()


def all_reduce_mean(model, values, rows):
    """The means; `None` for one process. They belong to the first variables."""
    ranks = model.held.ranks
    return None if ranks is None else ranks.mean(values, rows)


@contextlib.contextmanager
def all_reduced_metrics(model):
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
