"""Forward passes of Keras models, compiled where that pays, under PyTorch."""

import collections
import importlib.util
import os
import re
import shutil
import time

import keras
import numpy as np

from keras_dtkd.backend.torch_gradient_averaging import default_device
from keras_dtkd.backend.torch_kept_tensors import KeptTensors
from keras_dtkd.backend.torch_traced_forward import (
    CONSTANT_TYPES,
    TracedForward,
    tensors_of,
)

# Seconds that a function has run before it is compiled under `"auto"`, about what
# compiling takes: the two together are never more than twice the best choice. On a GPU,
# seconds of the host that launches it.
PATIENCE = 60.0
# Under `"auto"` a function is compiled for one more shape after so many calls with it;
# and never for more shapes than these.
CALLS_BEFORE_ANOTHER, MAX_SIGNATURES = 50, 4

# Nodes of a graph whose compiling is announced: it may take minutes.
LARGE_GRAPH = 250


class CompiledForward:
    """A function that runs a model: eager at first, and then compiled.

    What cannot be compiled, or gives other results or gradients when it is, runs as it
    did, and a printed line names the reason.

    Args:
        function: Of nested tensors, with nested tensors as result. It may read and
            assign the variables, and no others.
        variables: Keras variables, as they are outside of any scope.
        name: What it is, for messages.
        when: `"auto"`, or `True` for the first call.
        layers: The layers that the function runs.
        add_loss: Called with each loss that layers add, and the layer before it, or
            `None` where that is not known.
    """

    def __init__(
        self, function, variables, name, when="auto", layers=(), add_loss=None
    ):
        self._function, self._variables = function, list(variables)
        self._name, self._when = name, when
        self._layers, self._add_loss = layers, add_loss
        # A parameter stays the same tensor, and in mixed precision a step gets a copy.
        self._parameters = [variable.value for variable in self._variables]
        self._seconds = 0.0
        self._calls: collections.Counter = collections.Counter()
        self._is_full = False
        # By signature: a `TracedForward` and its compiled graph, or `None` where that
        # is not possible.
        self._compiled: dict = {}

    def __call__(self, *args):
        # `train_on_batch` leaves arrays to the layers.
        args = keras.tree.map_structure(_to_tensor, args)
        signature = self._signature(args)
        if signature is None:
            return self._function(*args)
        if signature not in self._compiled:
            self._calls[signature] += 1
            if not self._is_due(signature):
                return self._run_eagerly(args)
        try:
            if signature not in self._compiled:
                self._compiled[signature] = self._compile(args)
            if self._compiled[signature] is None:
                return self._function(*args)
            traced, run = self._compiled[signature]
            flat = run(self._values(), tensors_of(args))
        except Exception as error:  # noqa: BLE001 - of the user's layers, and compilers
            self._compiled[signature] = None
            self._print(
                f"is not compiled ({_reason(error)}). For {_shapes(args)} it runs as "
                "with `torch_compile=False`."
            )
            return self._function(*args)
        return traced.apply(flat, self._add_loss)

    def _run_eagerly(self, args):
        start = time.perf_counter()
        result = self._function(*args)
        self._seconds += time.perf_counter() - start
        return result

    def _signature(self, args):
        """What a graph is made for, or `None` where there can be none."""
        import torch

        device = default_device().type
        is_autocast = torch.is_autocast_enabled(device)
        autocast = torch.get_autocast_dtype(device) if is_autocast else None
        parts = [torch.is_grad_enabled(), autocast]
        for leaf in keras.tree.flatten(args):
            if isinstance(leaf, torch.Tensor):
                if leaf.is_meta or type(leaf) not in (torch.Tensor, torch.nn.Parameter):
                    # A shape is being inferred, or someone else traces.
                    return None
                parts.append((leaf.shape, leaf.dtype, leaf.device, leaf.requires_grad))
            elif isinstance(leaf, CONSTANT_TYPES):
                parts.append(leaf)
            else:
                return None
        parts.append(tuple(p.requires_grad for p in self._parameters))
        return str(keras.tree.map_structure(lambda _: 0, args)), *parts

    def _is_due(self, signature):
        if len(self._compiled) >= MAX_SIGNATURES:
            if self._when is True and not self._is_full:
                self._is_full = True
                self._print(f"is compiled for {MAX_SIGNATURES} shapes, and no others.")
            return False
        if self._when is True:
            # At once, so that a run that is resumed compiles the same steps. A smaller
            # batch ends an epoch: compiling it takes as long as for all others.
            num_rows, rest = _split_rows(signature)
            compiled = map(_split_rows, self._compiled)
            return not any(n > num_rows and other == rest for n, other in compiled)
        if self._compiled:
            return self._calls[signature] > CALLS_BEFORE_ANOTHER
        is_frequent = self._calls[signature] == max(self._calls.values())
        return self._seconds >= PATIENCE and is_frequent and can_compile()

    def _values(self):
        # Random states may be those of a scope, in which a teacher runs.
        return [
            parameter if parameter.is_floating_point() else variable.value
            for variable, parameter in zip(
                self._variables, self._parameters, strict=True
            )
        ]

    def _compile(self, args):
        """The `TracedForward` of a signature, and its compiled graph, verified."""
        start = time.perf_counter()
        values = self._values()
        traced = self._trace(args, values)
        num_operations = len(traced.graph.graph.nodes)
        if num_operations > LARGE_GRAPH:
            self._print(f"is being compiled ({num_operations:,} operations).")
        run = compile_graph(traced.graph)
        with KeptTensors(self._layers):
            verify(traced, run, values, tensors_of(args))
        seconds = time.perf_counter() - start
        self._print(
            f"is compiled from here on for {_shapes(args)}, which took {seconds:.0f} s."
        )
        return traced, run

    def _trace(self, args, values):
        """A `TracedForward`. An error leaves the layers as they were."""
        traced, kept = self._trace_once(args, values)
        if kept is None:
            return traced
        before = KeptTensors(self._layers)
        try:
            # A table that is made in the first call is the same from there on.
            _results_and_gradients(traced.run_flat, values, tensors_of(args))
            traced, kept = self._trace_once(args, values)
            if kept is not None:
                raise ValueError(f"a layer keeps a tensor of its call as `{kept}`")
        except BaseException:
            before.restore()
            raise
        return traced

    def _trace_once(self, args, values):
        """A `TracedForward`, and the name of what a layer would have kept of it."""
        with KeptTensors(self._layers) as layers:
            traced = TracedForward(
                self._function, self._variables, args, values, self._layers
            )
            return traced, layers.find_other()

    def _print(self, text):
        from keras_dtkd.backend import current

        if current().rank_and_world_size()[0] == 0:
            print(f"keras_dtkd: the forward pass of {self._name} {text}", flush=True)


def _to_tensor(leaf):
    is_numeric = isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biuf"
    return keras.ops.convert_to_tensor(leaf) if is_numeric else leaf


def _shapes(args):
    return ", ".join(str(tuple(tensor.shape)) for tensor in tensors_of(args))


def _reason(error):
    """Why something is not compiled, in a few words."""
    if "DataDependent" in type(error).__name__:
        return "its Python code depends on the values of tensors"
    # Keras wraps a message in the names and arguments of layers, in bold.
    message = re.search(r"\x1b\[1m(.*?)\x1b\[0m", str(error), re.DOTALL)
    text = " ".join((message[1] if message else str(error)).split())[:200]
    return f"{type(error).__name__}: {text}".rstrip(": ")


def _split_rows(signature):
    """The number of rows of a batch, and the rest of its signature."""
    import torch

    num_rows, rest = 0, []
    for part in signature:
        if isinstance(part, tuple) and part and isinstance(part[0], torch.Size):
            shape, *others = part
            num_rows = max([num_rows, *shape[:1]])
            part = shape[1:], *others
        rest.append(part)
    return num_rows, rest


def compile_graph(graph):
    """A graph, compiled by `torch.compile`."""
    import torch

    # Random numbers are those of the eager operations.
    options = {"fallback_random": True}
    return torch.compile(graph, dynamic=False, options=options)


def can_compile():
    """Whether `"auto"` may compile: there is a compiler, and bits may change."""
    import torch

    if torch.are_deterministic_algorithms_enabled():
        # The step from which on it is compiled depends on the time.
        return False
    compilers = os.environ.get("CXX"), "g++", "clang++", "c++"
    has_compiler = any(name and shutil.which(name) for name in compilers)
    device = default_device().type
    has_triton = importlib.util.find_spec("triton") is not None
    return has_compiler and (device == "cpu" or (device == "cuda" and has_triton))


def verify(traced, run, values, tensors):
    """Raises a `ValueError` where other results or gradients come of compiling.

    `run` is a function of the variables' values and the arguments' tensors.
    """
    # One value of many that rounding moves across a ReLU's edge changes gradients.
    tolerances = 1e-3, 1e-2
    if default_device().type == "cuda":
        # Convolutions have ten bits there (TF32).
        tolerances = 1e-2, 5e-2
    if traced.is_half:
        tolerances = 0.3, 0.3
    for kind, tolerance, found, right in zip(
        ("results", "gradients"),
        tolerances,
        _results_and_gradients(run, values, tensors, traced.layout.updated),
        _results_and_gradients(traced.run_flat, values, tensors),
        strict=True,
    ):
        largest = max((float(_to_finite(b).norm()) for b in right), default=0.0)
        for a, b in zip(found, right, strict=True):
            # One after the other: a large model leaves no room for copies of all.
            a, b = _to_finite(a), _to_finite(b)
            error, norm = float((a - b).norm()), float(b.norm())
            # A gradient that vanishes is rounding noise.
            if not error <= tolerance * (norm + 1e-2 * largest):
                raise ValueError(f"other {kind}, by {error:.1e} of {norm:.1e}")


def _results_and_gradients(run, values, tensors, updated=()):
    """Two lists of tensors; gradients are those of a random sum of all results.

    `updated` are values that change in place before the backward pass.
    """
    import torch

    # A layer may change its inputs in place.
    tensors = [t.detach().clone().requires_grad_(t.requires_grad) for t in tensors]
    inputs = [t for t in (*values, *tensors) if t.requires_grad]
    devices = [default_device()] if default_device().type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(0)
        results = run(values, tensors)
        for i in updated:
            # As assigning them does: an error where the backward pass reads them.
            values[i].copy_(values[i].clone())
        torch.manual_seed(1)
        losses = [
            (result * torch.randn_like(result)).sum().float()
            for result in results
            if result.requires_grad
        ]
    gradients = [torch.zeros_like(value) for value in inputs]
    if losses and torch.is_grad_enabled():
        gradients = torch.autograd.grad(
            sum(losses), inputs, allow_unused=True, materialize_grads=True
        )
    return [result.detach() for result in results], gradients


def _to_finite(tensor):
    return tensor.float().nan_to_num(0.0, 1e4, -1e4)
