"""PyTorch, on its own or as one of several processes under `torchrun`."""

import contextlib
import os

import keras

from keras_dtkd.backend.base import Backend
from keras_dtkd.backend.torch_gradient_averaging import (
    GradientAverager,
    default_device,
    rank_and_world_size,
)


class TorchBackend(Backend):
    """Each process has a step of its own; gradients are averaged between them."""

    def rank_and_world_size(self):
        """Those of `torch.distributed`, once it is initialized."""
        return rank_and_world_size()

    def zero_grad(self, variables):
        """Sets gradients to `None`.

        Keras finds what to clear by the variables' paths, which two losses of one kind
        share.
        """
        for variable in variables:
            variable.value.grad = None

    def enable_determinism(self):
        """Deterministic algorithms, and what cuBLAS needs for them."""
        import torch

        # Read when a GPU is used for the first time; without it cuBLAS refuses.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)

    def get_rng_state(self):
        """Of the CPU, and of the current GPU where Keras uses one."""
        import torch

        states = {"torch_cpu": torch.get_rng_state().numpy()}
        if default_device().type == "cuda":
            states["torch_cuda"] = torch.cuda.get_rng_state().numpy()
        return states

    def set_rng_state(self, states):
        """Sets those that there are."""
        import torch

        if "torch_cpu" in states:
            torch.set_rng_state(torch.from_numpy(states["torch_cpu"]))
        if "torch_cuda" in states and default_device().type == "cuda":
            torch.cuda.set_rng_state(torch.from_numpy(states["torch_cuda"]))

    def device_info(self):
        """The current device and its peak memory."""
        import torch

        if default_device().type != "cuda":
            return default_device().type, None
        return torch.cuda.get_device_name(), torch.cuda.max_memory_allocated()

    def no_grad(self):
        """`torch.no_grad`."""
        import torch

        return torch.no_grad()

    def jit(self, variables, function):
        """Not compiled: eager execution without a gradient."""
        import torch

        def run(*args):
            with torch.no_grad(), keras.StatelessScope([]):
                return function(*args)

        return run

    def weight_loss_by_batch_share(self, session, loss, batch_size):
        """The exchange of gradients weights by the number of samples."""
        if session.averager is None:
            return loss
        session.averager.local_batch_size = batch_size
        # Gradients in half precision are as large as those of one process: a scaled
        # loss overflows where it would there.
        share = loss / rank_and_world_size()[1]
        return share + (loss - share).detach()

    def _global_means(self, session, values, batch_size):
        # One value for each of the first variables.
        averager = session.averager
        return None if averager is None else averager.mean(values, batch_size)

    def all_gather_numbers(self, numbers):
        """A list of the same numbers from each process."""
        import torch

        own = torch.tensor(numbers, device=default_device())
        everywhere = [torch.empty_like(own) for _ in range(rank_and_world_size()[1])]
        torch.distributed.all_gather(everywhere, own)
        return [values.tolist() for values in everywhere]

    def broadcast(self, variables):
        """From rank 0."""
        import torch

        for variable in variables:
            torch.distributed.broadcast(variable.value.data, 0)

    @contextlib.contextmanager
    def open_session(self, session, parts):
        """While it trains, the model's gradients are those of all processes.

        What is evaluated in between, by a callback, is this process's alone.
        """
        is_training = parts.is_training
        is_open = is_training and session.averager is not None
        if rank_and_world_size()[1] == 1 or is_open:
            yield
            return
        before = session.averager
        session.averager = GradientAverager(parts) if is_training else None
        patched = contextlib.nullcontext()
        if is_training:
            patched = session.averager.patch_optimizer()
        try:
            with patched:
                yield
        finally:
            session.averager = before

    @contextlib.contextmanager
    def all_reduced_metrics(self, session, variables, ends_epoch):
        """Metric states summed over all processes, for as long as a result is read."""
        import torch

        if session.averager is None or session.in_step:
            yield
            return
        if ends_epoch:
            session.averager.barrier_at_epoch_end()
        values = [variable.value.data for variable in variables]
        own = [value.clone() for value in values]
        for value in values:
            torch.distributed.all_reduce(value)
        try:
            yield
        finally:
            for value, before in zip(values, own, strict=True):
                value.copy_(before)
