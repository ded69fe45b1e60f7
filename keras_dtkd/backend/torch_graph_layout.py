"""Fewer copies around the convolutions of a traced graph, with the same results.

Keras's images are `channels_last`, PyTorch's convolutions take `channels_first`: its
layers permute their inputs, and copy them twice to give the memory a layout that it
has already. They pad in an operation of its own, for which the compiler makes slow
code. And for the gradient of a ReLU whose result is permuted, the compiler stores a
mask, which takes longer than the ReLU.
"""

import itertools


def simplify_layout(graph_module):
    """Changes a `torch.fx.GraphModule` of ATen operations in place."""
    import torch

    aten, graph = torch.ops.aten, graph_module.graph
    for node in list(graph.nodes):
        if is_call(node, aten.convolution.default) and not node.args[6]:
            fold_padding(graph, node)
            drop_copies(graph, node)
    graph.eliminate_dead_code()
    for node in list(graph.nodes):
        if is_call(node, aten.relu.default):
            move_permutation(graph, node)
    graph.eliminate_dead_code()
    graph_module.recompile()


def is_call(node, *targets):
    """Whether a node calls one of these operations."""
    return node.op == "call_function" and node.target in targets


def fold_padding(graph, convolution):
    """Makes zeros that are added around the image the convolution's own padding."""
    import torch

    aten = torch.ops.aten
    layout_ops = aten.clone.default, aten.permute.default
    pad, *steps = walk_back(convolution.args[0], layout_ops)
    if not is_call(pad, aten.constant_pad_nd.default):
        return
    x, amounts, *value = pad.args
    if any(value) or has_mutation(graph, pad, convolution):
        return
    # From the last axis to the first, before and after.
    pairs = list(zip(amounts[::2], amounts[1::2], strict=True))[::-1]
    pairs = [(0, 0)] * (pad.meta["val"].ndim - len(pairs)) + pairs
    for step in steps:
        if is_call(step, aten.permute.default):
            pairs = [pairs[axis] for axis in step.args[1]]
    if any(a != b or a < 0 for a, b in pairs) or any(a for a, _ in pairs[:2]):
        return
    with graph.inserting_before(convolution):
        for step in steps:
            x = graph.call_function(step.target, (x, *step.args[1:]), step.kwargs)
    convolution.update_arg(0, x)
    padding = [a + b for a, (b, _) in zip(convolution.args[4], pairs[2:], strict=True)]
    convolution.update_arg(4, padding)


def drop_copies(graph, convolution):
    """Gives a convolution its permuted input itself, not a copy in another layout."""
    import torch

    aten = torch.ops.aten
    permutation, *copies = walk_back(convolution.args[0], (aten.clone.default,))
    if not copies or not is_call(permutation, aten.permute.default):
        return
    # The layout of the input decides that of the output, which what follows relies on.
    is_channels_last = copies[-1].kwargs.get("memory_format") == torch.channels_last
    if is_channels_last and not has_mutation(graph, copies[0], convolution):
        convolution.update_arg(0, permutation)


def move_permutation(graph, relu):
    """Permutes what a ReLU takes rather than what it gives, where that is permuted."""
    import torch

    permute = torch.ops.aten.permute.default
    permutations = [user for user in relu.users if is_call(user, permute)]
    value = relu.args[0].meta.get("val")
    # Of another input, as a broadcast one, the result would have another layout.
    if not permutations or value is None or not value.is_contiguous():
        return
    axes = [axis % value.ndim for axis in permutations[0].args[1]]
    inverse = [axes.index(axis) for axis in range(value.ndim)]
    with graph.inserting_before(relu):
        permuted = graph.call_function(permute, (relu.args[0], axes))
        moved = graph.call_function(relu.target, (permuted,))
        back = graph.call_function(permute, (moved, inverse))
    for permutation in permutations:
        if [axis % value.ndim for axis in permutation.args[1]] == axes:
            permutation.replace_all_uses_with(moved)
            graph.erase_node(permutation)
    relu.replace_all_uses_with(back)
    graph.erase_node(relu)


def walk_back(node, targets):
    """The first node that calls none of `targets`, and those after it, in order."""
    nodes = [node]
    while is_call(nodes[0], *targets):
        nodes.insert(0, nodes[0].args[0])
    return nodes


def has_mutation(graph, first, last):
    """Whether an operation between two nodes changes a tensor in place."""
    after = itertools.dropwhile(lambda node: node is not first, graph.nodes)
    between = itertools.takewhile(lambda node: node is not last, after)
    schemas = (getattr(node.target, "_schema", None) for node in between)
    return any(schema is not None and schema.is_mutable for schema in schemas)
