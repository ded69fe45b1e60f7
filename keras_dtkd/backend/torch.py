"""The PyTorch backend: processes have steps of their own, and average gradients."""

import contextlib
import os

import keras

from keras_dtkd.backend.base import Backend
from keras_dtkd.backend.torch_gradient_averaging import GradientAverager, default_device


class TorchBackend(Backend):
    """See `Backend`."""

    def rank_and_world_size(self):
        import torch

        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return 0, 1

    def replica_index_and_count(self):
        return self.rank_and_world_size()

    def zero_grad(self, variables):
        # Keras finds what to clear by the variables' paths, which two losses of one
        # class share.
        for variable in variables:
            variable.value.grad = None

    def enable_determinism(self):
        import torch

        # Read when a GPU is used for the first time; without it cuBLAS refuses.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)

    def get_rng_state(self):
        import torch

        states = {"torch_cpu": torch.get_rng_state().numpy()}
        if default_device().type == "cuda":
            states["torch_cuda"] = torch.cuda.get_rng_state().numpy()
        return states

    def set_rng_state(self, states):
        import torch

        if "torch_cpu" in states:
            torch.set_rng_state(torch.from_numpy(states["torch_cpu"]))
        if "torch_cuda" in states and default_device().type == "cuda":
            torch.cuda.set_rng_state(torch.from_numpy(states["torch_cuda"]))

    def device_info(self):
        import torch

        if default_device().type != "cuda":
            return default_device().type, None
        return torch.cuda.get_device_name(), torch.cuda.max_memory_allocated()

    def no_grad(self):
        import torch

        return torch.no_grad()

    def jit(self, variables, function):
        import torch

        def run(*args):
            with torch.no_grad(), keras.StatelessScope([]):
                return function(*args)

        return run

    def compile_forward(
        self, function, variables, name, when="auto", layers=(), add_loss=None
    ):
        from keras_dtkd.backend.torch_compiled_forward import CompiledForward

        if when is False:
            return function
        return CompiledForward(function, variables, name, when, layers, add_loss)

    def weight_loss_by_batch_share(self, session, loss, batch_size):
        if session.averager is None:
            return loss
        session.averager.local_batch_size = batch_size
        # Gradients in half precision are as large as those of one process: a scaled
        # loss overflows where it would there.
        share = loss / session.averager.world_size
        return share + (loss - share).detach()

    def _global_means(self, session, values, batch_size):
        averager = session.averager
        return None if averager is None else averager.mean(values, batch_size)

    def all_gather_numbers(self, numbers):
        import torch

        local = torch.tensor(numbers, device=default_device())
        _, world_size = self.rank_and_world_size()
        gathered = [torch.empty_like(local) for _ in range(world_size)]
        torch.distributed.all_gather(gathered, local)
        return [values.tolist() for values in gathered]

    def broadcast(self, variables):
        import torch

        for variable in variables:
            torch.distributed.broadcast(variable.value.data, 0)

    def value_and_input_grad(self, fn, x):
        import torch

        recorded = torch.is_grad_enabled()
        leaves = [
            leaf if leaf.requires_grad else leaf.detach().requires_grad_(True)
            for leaf in keras.tree.flatten(x)
        ]
        with torch.enable_grad(), _twice_differentiable():
            value, aux = fn(keras.tree.pack_sequence_as(x, leaves))
            if value.requires_grad:
                gradients = torch.autograd.grad(
                    value, leaves, create_graph=recorded, materialize_grads=True
                )
            else:
                gradients = [torch.zeros_like(leaf) for leaf in leaves]
        if not recorded:
            value, aux = keras.tree.map_structure(lambda a: a.detach(), (value, aux))
        return (value, aux), keras.tree.pack_sequence_as(x, gradients)

    def jvp(self, fn, x, v):
        import torch

        with _twice_differentiable(), _plain_layer_norm():
            value, tangent, aux = torch.func.jvp(fn, (x,), (v,), has_aux=True)
        return (value, aux), tangent

    @contextlib.contextmanager
    def open_session(self, session, model_state):
        _, world_size = self.rank_and_world_size()
        is_training = model_state.is_training
        is_open = is_training and session.averager is not None
        if world_size == 1 or is_open:
            yield
            return
        # Evaluations in between, by a callback, are this process's alone.
        averager = GradientAverager(model_state, world_size) if is_training else None
        before, session.averager = session.averager, averager
        try:
            with averager.patched_optimizer() if averager else contextlib.nullcontext():
                yield
        finally:
            session.averager = before

    @contextlib.contextmanager
    def all_reduced_metrics(self, session, variables, ends_epoch):
        import torch

        if session.averager is None or session.in_step:
            yield
            return
        if ends_epoch:
            session.averager.barrier_at_epoch_end()
        values = [variable.value.data for variable in variables()]
        local = [value.clone() for value in values]
        for value in values:
            torch.distributed.all_reduce(value)
        try:
            yield
        finally:
            for value, before in zip(values, local, strict=True):
                value.copy_(before)


def _twice_differentiable():
    """Attention by the kernel that has a second and a forward-mode derivative."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel(SDPBackend.MATH)


def _plain_layer_norm():
    """LayerNorm in small steps.

    PyTorch takes the fused one's mean and variance for constants in the gradient of a
    forward-mode derivative, which is silently wrong (pytorch/pytorch#196700).
    """
    import torch
    from torch.overrides import TorchFunctionMode

    def layer_norm(x, normalized_shape, weight=None, bias=None, eps=1e-5):
        axes = tuple(range(-len(normalized_shape), 0))
        centered = x - x.mean(axes, keepdim=True)
        result = centered * ((centered**2).mean(axes, keepdim=True) + eps).rsqrt()
        result = result if weight is None else result * weight
        return result if bias is None else result + bias

    class Plain(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func is torch.nn.functional.layer_norm:
                func = layer_norm
            return func(*args, **(kwargs or {}))

    return Plain()
