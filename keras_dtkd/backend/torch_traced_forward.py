"""A function that runs a Keras model, traced to a graph of PyTorch's operations."""

import dataclasses
import itertools
from typing import Any

import keras

from keras_dtkd.backend.torch_graph_layout import simplify_layout
from keras_dtkd.core.autocast import assign_uncast
from keras_dtkd.core.layer_tree import iter_layers
from keras_dtkd.core.masking import attach_mask, get_mask

# Stands for a tensor among leaves.
_TENSOR = object()
# What arguments and results may hold apart from tensors.
CONSTANT_TYPES = (bool, int, float, str, type(None))
# The seed by which the generators of Keras's seeded operations are found in a trace.
_MARKER = 0x5EED_57A7


@dataclasses.dataclass
class Layout:
    """What the tensors of a graph's flat list are.

    Attributes:
        structure, leaves: The result, of which `_TENSOR` are tensors.
        num_results: How many these are.
        masked: Which of them have a mask.
        owners: The layer of each loss that layers add, `None` where it is not known.
        updated: Which variables have a new value.
        is_cast: Whether Keras casts some of these, in mixed precision.
    """

    structure: Any
    leaves: list
    num_results: int
    masked: list
    owners: list
    updated: list
    is_cast: bool


class TracedForward:
    """A function's graph, for arguments and variables of one signature.

    The graph gives a flat list of tensors: results, their masks, what layers add to
    the loss, and the new values of variables. Random numbers are those of torch's own
    generator, also in a layer with a seed: a generator that is made while tracing would
    give the same ones in every step.

    Args:
        function: Of nested tensors, with nested tensors as result.
        variables: Those that the function reads or assigns.
        args: Arguments of the signature.
        values: The variables' tensors.
        layers: The layers that the function runs.

    Attributes:
        graph: A `torch.fx.GraphModule`, of the values and the arguments' tensors.
        layout: The `Layout` of its results.
        is_half: Whether some of it is computed in half precision.
    """

    def __init__(self, function, variables, args, values, layers=()):
        import torch
        from torch.fx.experimental.proxy_tensor import make_fx

        self._function, self._variables = function, variables
        self._layers = list(iter_layers(list(layers)))
        self._args_structure, self._args = _split(args)

        # Fake tensors have no values: what depends on one fails, and is no constant.
        def run_flat(values, tensors):
            flat, self.layout = self._run(values, tensors, is_traced=True)
            return flat

        # A layer's own tensors (`Normalization`'s mean) have values, and are constants.
        options = {"tracing_mode": "fake", "_allow_non_fake_inputs": True}
        self.graph = make_fx(run_flat, **options)(values, tensors_of(args))
        check_constants(self.graph)
        found = (node.meta.get("val") for node in self.graph.graph.nodes)
        dtypes = {getattr(value, "dtype", None) for value in found}
        self.is_half = bool(dtypes & {torch.float16, torch.bfloat16})
        simplify_layout(self.graph)

    def run_flat(self, values, tensors):
        """Runs the function as the graph does. Returns the flat list of tensors."""
        flat = self._run(values, tensors)[0]
        check_gradients(flat)
        return flat

    def _run(self, values, tensors, is_traced=False):
        """The flat list of tensors, and its `Layout`, with owners if it `is_traced`."""
        variables = self._variables
        args = _merge(self._args_structure, self._args, iter(tensors))
        pairs = list(zip(variables, values, strict=True))
        seeds = [value for variable, value in pairs if is_random_state(variable)]
        with (
            _torch_randomness(seeds),
            keras.StatelessScope(pairs, collect_losses=True) as scope,
        ):
            before = [scope.get_current_value(variable) for variable in variables]
            versions = _versions(values)
            results = self._function(*args)
            if _versions(values) != versions:
                raise ValueError("a layer changes the tensor of a variable in place")
            owners = self._find_owners(scope.losses) if is_traced else []
            after = [scope.get_current_value(variable) for variable in variables]
            found = tensors_of(results)
            masks = [get_mask(tensor) for tensor in found]
        changes = enumerate(zip(before, after, strict=True))
        updates = {i: new.detach() for i, (old, new) in changes if new is not old}
        if any(values[i].requires_grad for i in updates):
            # Outside of a scope no gradient flows through what is assigned.
            raise ValueError("a layer assigns a variable that is trained")
        if len(scope.state_mapping) > len(variables):
            raise ValueError("a layer assigns a variable that its model does not have")
        structure, leaves = _split(results)
        masked = [i for i, mask in enumerate(masks) if mask is not None]
        is_cast = any(variables[i].value.dtype != values[i].dtype for i in updates)
        layout = Layout(
            structure, leaves, len(found), masked, owners, list(updates), is_cast
        )
        masks = [mask for mask in masks if mask is not None]
        return [*found, *masks, *scope.losses, *updates.values()], layout

    def _find_owners(self, losses):
        """The innermost layer of each loss, in the scope in which it was added."""
        if not losses:
            return []
        # Those of weights too, which are computed each time.
        found = [(layer, layer.losses) for layer in self._layers]
        owners = [
            [layer for layer, own in found if any(loss is each for each in own)]
            for loss in losses
        ]
        return [min(e, key=_count_layers, default=None) for e in owners]

    def apply(self, flat, add_loss):
        """The results in the graph's tensors; assigns variables, and adds losses."""
        flat, layout = iter(flat), self.layout
        results = list(itertools.islice(flat, layout.num_results))
        for i in layout.masked:
            results[i] = attach_mask(results[i], next(flat))
        for owner, loss in zip(layout.owners, flat, strict=False):
            if add_loss is not None:
                add_loss(owner, loss)
        variables = [self._variables[i] for i in layout.updated]
        if layout.is_cast:
            assign_uncast(variables, flat)
        else:
            for variable, value in zip(variables, flat, strict=True):
                variable.assign(value)
        return _merge(layout.structure, layout.leaves, iter(results))


def is_random_state(variable):
    """Whether a variable is the state of a `keras.random.SeedGenerator`."""
    return variable.name == "seed_generator_state"


def _count_layers(layer):
    return sum(1 for _ in iter_layers(layer))


def _versions(values):
    """How often each tensor was changed in place."""
    return [0 if value.is_inference() else value._version for value in values]


def _split(nested):
    """A structure without tensors, and its leaves, of which `_TENSOR` are tensors."""
    import torch

    leaves = keras.tree.flatten(nested)
    leaves = [_TENSOR if isinstance(a, torch.Tensor) else a for a in leaves]
    for leaf in leaves:
        if leaf is not _TENSOR and not isinstance(leaf, CONSTANT_TYPES):
            raise TypeError(f"a {type(leaf).__name__} is neither tensor nor constant")
    return keras.tree.map_structure(lambda _: 0, nested), leaves


def _merge(structure, leaves, tensors):
    leaves = [next(tensors) if leaf is _TENSOR else leaf for leaf in leaves]
    return keras.tree.pack_sequence_as(structure, leaves)


def tensors_of(args):
    """The tensors of nested arguments."""
    import torch

    leaves = keras.tree.flatten(args)
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]


def check_constants(graph_module):
    """Raises a `ValueError` where a tensor that is no input of a graph may change."""
    import torch

    for node in graph_module.graph.nodes:
        if node.op == "get_attr":
            value = getattr(graph_module, node.target, None)
            if isinstance(value, torch.nn.Parameter):
                # The graph would lose what is assigned to it.
                raise ValueError(
                    "a layer uses a parameter that is no variable of its model"
                )
        schema = getattr(node.target, "_schema", None)
        if schema is None or not schema.is_mutable:
            continue
        for argument, value in zip(schema.arguments, node.args, strict=False):
            is_written = (
                argument.alias_info is not None and argument.alias_info.is_write
            )
            if is_written and getattr(value, "op", None) == "get_attr":
                raise ValueError("a layer changes a tensor that is not a variable")


def check_gradients(results):
    """Raises a `ValueError` for a gradient that is no operation's: a graph has none."""
    import torch

    seen, nodes = set(), [result.grad_fn for result in results]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            raise ValueError("a layer has a gradient of its own")
        nodes += [inner for inner, _ in node.next_functions]


def _torch_randomness(seeds):
    """A context in which seeded operations draw from torch's own generator.

    `seeds` are the tensors of random states, which move on as they do elsewhere.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class Randomness(TorchFunctionMode):
        def __init__(self):
            super().__init__()
            # Tensors that depend on a seed, kept so that no other has their `id`.
            self.derived = {id(seed): seed for seed in seeds}

        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func is torch.Tensor.register_hook:
                raise ValueError("a layer registers a hook on a tensor")
            kwargs = dict(kwargs or {})
            is_derived = any(id(a) in self.derived for a in keras.tree.flatten(args))
            # Keras makes a generator of a seed's value, which a trace does not have.
            if is_derived and func is torch.Tensor.__int__:
                return _MARKER
            generator = kwargs.get("generator")
            if generator is not None and generator.initial_seed() == _MARKER:
                kwargs["generator"] = None
            result = func(*args, **kwargs)
            if is_derived:
                for tensor in keras.tree.flatten(result):
                    if isinstance(tensor, torch.Tensor):
                        self.derived[id(tensor)] = tensor
            return result

    return Randomness()
