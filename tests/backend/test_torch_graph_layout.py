"""Graphs of convolutions lose copies, and keep their results and gradients."""

import keras
import numpy as np
import pytest

if keras.config.backend() != "torch":
    pytest.skip("PyTorch's graphs.", allow_module_level=True)

import torch
from torch.fx.experimental.proxy_tensor import make_fx

from keras_dtkd import models
from keras_dtkd.backend.torch_graph_layout import simplify_layout

ATEN = torch.ops.aten
RELU = ATEN.relu.default
X = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 8, 8, 3)))


def trace(function, *args):
    return make_fx(function, tracing_mode="fake")(*args)


def trace_model(model, training):
    """A graph of `(values of variables, images)`, and float64 values."""
    values = [v.value.detach().double() for v in model.variables]

    def run(values, x):
        pairs = list(zip(model.variables, values, strict=True))
        with keras.StatelessScope(pairs) as scope:
            outputs = model(x, training=training)
        new = [scope.get_current_value(v) for v in model.non_trainable_variables]
        return outputs, *new

    return trace(run, values, X), values


def count(graph_module, target):
    return sum(node.target is target for node in graph_module.graph.nodes)


def results_and_gradients(graph_module, values, x):
    values = [v.clone().requires_grad_() for v in values]
    x = x.clone().requires_grad_()
    results = graph_module(values, x)
    weights = torch.linspace(-1, 1, results[0].numel(), dtype=results[0].dtype)
    total = (results[0].flatten() * weights).sum()
    gradients = torch.autograd.grad(total, [*values, x], allow_unused=True)
    return [t for t in (*results, *gradients) if t is not None]


def same(found, right):
    assert len(found) == len(right)
    for a, b in zip(found, right, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.fixture
def float64():
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(before)
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["resnet8", "wrn_16_1", "mobilenetv2"])
def test_published_networks_have_the_same_results(name, training, float64):
    model = models.get(name, 10, (8, 8, 3))
    before, values = trace_model(model, training)
    after, _ = trace_model(model, training)
    simplify_layout(after)
    same(*(results_and_gradients(g, values, X) for g in (after, before)))
    convolutions = count(before, ATEN.convolution.default)
    assert count(after, ATEN.convolution.default) == convolutions
    # Those of the kernels are left.
    assert count(after, ATEN.clone.default) <= convolutions + 1
    assert count(before, ATEN.clone.default) > count(after, ATEN.clone.default) + 9
    assert count(after, ATEN.constant_pad_nd.default) == 0
    for node in after.graph.nodes:
        if node.target is ATEN.permute.default and node.args[0].target is RELU:
            # Back to Keras's layout, for a sum.
            assert list(node.args[1]) == [0, 2, 3, 1]


def padded(x, kernel, amounts, value=0.0):
    x = ATEN.constant_pad_nd(x, amounts, value)
    x = x.permute(0, 3, 1, 2).contiguous()
    return ATEN.convolution(x, kernel, None, [2, 2], [1, 0], [1, 1], False, [0, 0], 1)


KERNEL = torch.from_numpy(np.random.default_rng(1).normal(size=(5, 3, 3, 3)))


@pytest.mark.parametrize(
    ("amounts", "value", "is_folded"),
    [
        ([0, 0, 1, 1, 2, 2], 0.0, True),
        ([0, 0, 1, 1], 0.0, True),
        ([0, 0, 0, 1, 0, 1], 0.0, False),
        ([0, 0, -1, -1, 1, 1], 0.0, False),
        ([0, 0, 1, 1, 1, 1], 1.0, False),
        ([1, 1, 1, 1, 1, 1], 0.0, False),
    ],
)
def test_even_zeros_around_the_image_become_the_padding(amounts, value, is_folded):
    kernel = KERNEL
    if amounts[0]:
        kernel = torch.cat([KERNEL, KERNEL[:, :2]], dim=1)

    def function(x, kernel):
        return padded(x, kernel, amounts, value)

    graph = trace(function, X, kernel)
    simplify_layout(graph)
    assert count(graph, ATEN.constant_pad_nd.default) == (not is_folded)
    same([graph(X, kernel)], [function(X, kernel)])


def convolve(x, kernel):
    axes = [1] * (x.ndim - 2)
    return ATEN.convolution(
        x, kernel, None, axes, axes, axes, False, [0] * len(axes), 1
    )


def channels_first(x):
    """Keras's: permuted, and copied twice."""
    x = x.permute(0, 3, 1, 2).contiguous()
    return x.contiguous(memory_format=torch.channels_last)


def paddings(graph):
    calls = graph.graph.find_nodes(op="call_function", target=ATEN.convolution.default)
    return [call.args[4] for call in calls]


def test_a_padding_that_is_used_elsewhere_stays():
    def function(x, kernel):
        x = ATEN.constant_pad_nd(x, [0, 0, 1, 1, 1, 1])
        return convolve(channels_first(x), kernel), x + 1

    graph = trace(function, X, KERNEL)
    simplify_layout(graph)
    same(graph(X, KERNEL), function(X, KERNEL))
    assert count(graph, ATEN.constant_pad_nd.default) == 1
    assert paddings(graph) == [[2, 2]]


@pytest.mark.parametrize("is_padded", [True, False])
def test_what_is_changed_in_place_afterwards_is_copied_first(is_padded):
    def function(x, kernel):
        x = torch.relu(x)
        before = ATEN.constant_pad_nd(x, [0, 0, 1, 1, 1, 1]) if is_padded else x
        copy = channels_first(before)
        x.mul_(2.0)
        return convolve(copy, kernel), x + 1

    graph = trace(function, X, KERNEL)
    simplify_layout(graph)
    same(graph(X.clone(), KERNEL), function(X.clone(), KERNEL))
    assert paddings(graph) == [[1, 1]]
    assert count(graph, ATEN.clone.default) == 2


@pytest.mark.parametrize("axes", [(0, 3, 1, 2), (0, -1, 1, -2)])
def test_a_relu_with_other_users_gives_both_layouts(axes):
    def function(x, kernel):
        x = torch.relu(x - 0.1)
        copy = x.permute(axes).contiguous(memory_format=torch.channels_last)
        return convolve(copy, kernel), x.permute(0, 2, 1, 3), x.reshape(4, -1)

    graph = trace(function, X, KERNEL)
    simplify_layout(graph)
    same(graph(X, KERNEL), function(X, KERNEL))
    (relu,) = graph.graph.find_nodes(op="call_function", target=ATEN.relu.default)
    assert relu.args[0].target is ATEN.permute.default
    (convolution,) = graph.graph.find_nodes(
        op="call_function", target=ATEN.convolution.default
    )
    assert convolution.args[0] is relu


def test_a_layout_that_a_view_relies_on_is_kept():
    """Of a contiguous input's convolution, and of a ReLU of a broadcast input."""

    def function(x, kernel):
        contiguous = x.permute(0, 3, 1, 2).contiguous()
        broadcast = torch.relu(x[:1].expand(4, 8, 8, 3))
        first = convolve(contiguous, kernel).view(4, -1)
        second = convolve(channels_first(broadcast), kernel)
        return first, second, broadcast.view(4, -1)

    graph = trace(function, X, KERNEL)
    simplify_layout(graph)
    same(graph(X, KERNEL), function(X, KERNEL))


@pytest.mark.parametrize("kind", ["1D", "3D", "transposed", "grouped", "depthwise"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_every_convolution_has_the_same_results(kind, data_format, float64):
    layers, options = keras.layers, {"data_format": data_format}
    dims = {"1D": 1, "3D": 3}.get(kind, 2)
    pad = {1: layers.ZeroPadding1D, 2: layers.ZeroPadding2D, 3: layers.ZeroPadding3D}
    spatial = (4,) * dims
    is_last = data_format == "channels_last"
    inputs = keras.Input((*spatial, 4) if is_last else (4, *spatial))
    convolution = {
        "1D": lambda: layers.Conv1D(6, 3, strides=2, **options),
        "3D": lambda: layers.Conv3D(6, 3, strides=2, **options),
        "transposed": lambda: layers.Conv2DTranspose(6, 3, strides=2, **options),
        "grouped": lambda: layers.Conv2D(6, 3, strides=2, groups=2, **options),
        "depthwise": lambda: layers.DepthwiseConv2D(3, strides=2, **options),
    }[kind]()
    x = pad[dims](1, **options)(layers.ReLU()(inputs))
    model = keras.Model(inputs, layers.Flatten()(layers.ReLU()(convolution(x))))
    values = [v.value.detach() for v in model.variables]
    batch = torch.from_numpy(
        np.random.default_rng(2).normal(size=(2, *inputs.shape[1:]))
    )

    def run(values, x):
        with keras.StatelessScope(list(zip(model.variables, values, strict=True))):
            return (model(x),)

    before, after = trace(run, values, batch), trace(run, values, batch)
    simplify_layout(after)
    same(*(results_and_gradients(g, values, batch) for g in (after, before)))
    assert count(after, ATEN.constant_pad_nd.default) == (kind == "transposed")
