"""PyTorch, on its own or as one of several processes under `torchrun`."""

import contextlib

import keras

from keras_dtkd import backend


def replicas():
    """One: each process has a step of its own."""
    return 1


def processes():
    """This process's rank, and how many there are."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


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
    """The function as it is, told how much of the global batch is its own."""
    if processes()[1] == 1:
        return function

    def step(data):
        model.held.share = _share(data[0] if isinstance(data, list | tuple) else data)
        return function(data)

    return step


def _share(data):
    """The factor that makes a mean over processes the mean over samples.

    `n · processes / N`, for n samples here and N everywhere: 1 but in an uneven
    last batch.
    """
    import torch

    x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
    here = len(keras.tree.flatten(x)[0])
    device = keras.ops.convert_to_tensor(0.0).device
    everywhere = torch.tensor(float(here), device=device)
    torch.distributed.all_reduce(everywhere)
    return here * processes()[1] / everywhere.item()


@contextlib.contextmanager
def session(model, training):
    """Gradients averaged over all processes, all of which start from rank 0's state.

    Keras has no distribution under torch. A hook on each parameter's finished
    gradient leaves the training step as it is.
    """
    import torch

    rank, world = processes()
    if world == 1 or not training or model.held.share is not None:
        yield
        return

    def average(parameter):
        parameter.grad.mul_(model.held.share / world)
        torch.distributed.all_reduce(parameter.grad)

    for variable in (*model.variables, *model.optimizer.variables):
        torch.distributed.broadcast(variable.value.data, 0)
    model.held.share = 1.0
    hooks = [
        variable.value.register_post_accumulate_grad_hook(average)
        for variable in model.trainable_variables
    ]
    try:
        yield
    finally:
        model.held.share = None
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def metrics_of_all(model):
    """Metric states summed over all processes, for as long as a result is read."""
    import torch

    if processes()[1] == 1 or model.held.share is None or model.held.in_step:
        yield
        return
    values = [variable.value for variable in model.metrics_variables]
    own = [value.data.clone() for value in values]
    for value in values:
        torch.distributed.all_reduce(value.data)
    try:
        yield
    finally:
        for value, before in zip(values, own, strict=True):
            value.data.copy_(before)
