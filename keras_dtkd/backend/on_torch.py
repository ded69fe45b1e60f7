"""PyTorch, on its own or as one of several processes under `torchrun`."""

import contextlib
import os

from keras_dtkd import backend
from keras_dtkd.backend.ranks_on_torch import Ranks, here
from keras_dtkd.backend.ranks_on_torch import processes as processes


def replicas():
    """One: each process has a step of its own."""
    return 1


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
    if here().type == "cuda":
        found["torch_cuda"] = torch.cuda.get_rng_state().numpy()
    return found


def set_generator(states):
    """See `keras_dtkd.backend.set_generator`."""
    import torch

    if "torch_cpu" in states:
        torch.set_rng_state(torch.from_numpy(states["torch_cpu"]))
    if "torch_cuda" in states and here().type == "cuda":
        torch.cuda.set_rng_state(torch.from_numpy(states["torch_cuda"]))


def device():
    """See `keras_dtkd.backend.device`."""
    import torch

    if here().type != "cuda":
        return here().type, None
    return torch.cuda.get_device_name(), torch.cuda.max_memory_allocated()


def runs_channels_first():
    """True on every device."""
    return True


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

    own = torch.tensor(numbers, device=here())
    everywhere = [torch.empty_like(own) for _ in range(processes()[1])]
    torch.distributed.all_gather(everywhere, own)
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
