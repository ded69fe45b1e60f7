"""PyTorch."""

import keras


def value_and_input_grad(fn, x):
    """Always with `aux`."""
    import torch

    recorded = torch.is_grad_enabled()
    leaves = [
        leaf if leaf.requires_grad else leaf.detach().requires_grad_(True)
        for leaf in keras.tree.flatten(x)
    ]
    with torch.enable_grad(), _twice_differentiable():
        value, aux = fn(keras.tree.pack_sequence_as(x, leaves))
        gradients = [None] * len(leaves)
        if value.requires_grad:
            gradients = torch.autograd.grad(
                value, leaves, create_graph=recorded, allow_unused=True
            )
    gradients = [
        torch.zeros_like(leaf) if gradient is None else gradient
        for leaf, gradient in zip(leaves, gradients, strict=True)
    ]
    if not recorded:
        value, aux = keras.tree.map_structure(lambda a: a.detach(), (value, aux))
    return (value, aux), keras.tree.pack_sequence_as(x, gradients)


def jvp(fn, x, v):
    """Always with `aux`."""
    import torch

    with _twice_differentiable(), _plain_layer_norm():
        value, tangent, aux = torch.func.jvp(fn, (x,), (v,), has_aux=True)
    return (value, aux), tangent


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
