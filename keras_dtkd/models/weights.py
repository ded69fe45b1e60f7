"""Loading of weights that were trained elsewhere."""

import os
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from keras import layers

BATCH_NORM_NAMES = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
# From PyTorch's axes to Keras's, in either data format.
KERNEL_AXES = {
    layers.Conv2D: (2, 3, 1, 0),
    layers.DepthwiseConv2D: (2, 3, 0, 1),
    layers.Dense: (1, 0),
}
# Names of the last layer in the literature's networks.
CLASSIFIER = re.compile(r"^(fc|linear|classifier|classifier\.0)\.(?=weight$|bias$)")
# Maximal number of names of each kind in an error.
MAX_LISTED = 10


def load_torch(model, weights):
    """Loads a PyTorch `state_dict` into a network, by name.

    Expects the names of the networks in megvii-research/mdistiller, such as
    `layer1.0.conv1.weight`, `bn1.running_mean`, `fc.bias` (or `linear`, `classifier`).
    A prefix `module.` and batch counters are ignored. PyTorch is not needed.

    Args:
        model: A network of `models.get`, in either data format.
        weights: A dict of names to NumPy arrays or PyTorch tensors, or the path of an
            `.npz` file of such arrays. For a checkpoint, pass the dict inside it:
            `torch.load(path)["model"]`.

    Returns:
        `model`.

    Raises:
        ValueError: Arrays are missing, unexpected, or of another shape, with their
            names; or the file cannot be read. The model is unchanged.
        TypeError: `weights` is neither a dict nor a path.

    Example:

    >>> models.load_torch(models.get("resnet8x4"), torch_model.state_dict())
    """

    def locate(name):
        name = CLASSIFIER.sub("logits.", name.removeprefix("module."))
        module, _, kind = name.rpartition(".")
        return module.replace(".", "_"), kind

    arrays = {
        name: array
        for name, array in _to_arrays("load_torch", weights).items()
        if not name.endswith("num_batches_tracked")
    }
    return _assign("load_torch", model, arrays, locate, KERNEL_AXES)


def load_sequential_npz(model, weights):
    """Loads weights into a ResNet from a file that numbers blocks across all stages.

    In such a file, `f.0` is the convolution of the stem and `f.1` its batch norm;
    `f.3`, `f.4`, ... are the blocks, each with `c1`, `b1`, `c2`, `b2` and, where its
    shape changes, `d.0` and `d.1` of the shortcut; `fc` is the linear layer. Kernels
    have the axes of Keras: (height, width, in, out) and (in, out).

    Args:
        model: `models.get("resnet32x4")` or another ResNet of three stages.
        weights: A dict of names to arrays, or the path of an `.npz` file of them.

    Returns:
        `model`.

    Raises:
        TypeError: As `load_torch`.
        ValueError: As `load_torch`.

    Example:

    >>> teacher = models.get("resnet32x4")
    >>> models.load_sequential_npz(teacher, "teacher-resnet32x4-fp16.npz")
    """
    modules = {"f.0": "conv1", "f.1": "bn1", "fc": "logits"}
    suffixes = {"c1": "conv1", "b1": "bn1", "c2": "conv2", "b2": "bn2"}
    suffixes |= {"d.0": "downsample_0", "d.1": "downsample_1"}
    names = [layer.name for layer in model.layers]
    first_layers = [name for name in names if re.fullmatch(r"layer\d_\d+_conv1", name)]
    for i, first_layer in enumerate(first_layers, 3):
        block = first_layer.removesuffix("_conv1")
        modules |= {f"f.{i}.{key}": f"{block}_{name}" for key, name in suffixes.items()}

    def locate(name):
        module, _, kind = name.rpartition(".")
        return modules.get(module, ""), kind

    arrays = _to_arrays("load_sequential_npz", weights)
    return _assign("load_sequential_npz", model, arrays, locate, {})


def _to_arrays(caller, weights):
    if isinstance(weights, str | os.PathLike):
        return read_npz(caller, weights)
    if not isinstance(weights, Mapping):
        raise TypeError(
            f"`models.{caller}`: `weights` must be a dict of names to arrays, or the "
            f"path of an `.npz` file. Received: {type(weights).__name__}. For a "
            "PyTorch model, pass its `state_dict()`."
        )
    arrays = {}
    for name, value in weights.items():
        if isinstance(value, dict):
            raise ValueError(
                f"`models.{caller}`: {name!r} is a dict and not an array. For a "
                f"checkpoint, pass only the weights, such as `checkpoint[{name!r}]`."
            )
        # NumPy supports no gradients, no other devices and no bfloat16.
        if hasattr(value, "detach"):
            value = value.detach().cpu().float()
        arrays[name] = np.asarray(value)
    return arrays


def read_npz(caller, path):
    """The arrays of an `.npz` file, by name."""
    if Path(path).suffix != ".npz":
        raise ValueError(
            f"`models.{caller}`: reads only `.npz` files. Received: {path}. Load it "
            "with PyTorch and pass the `state_dict`."
        )
    try:
        with np.load(path) as file:
            return dict(file)
    # Raised for a truncated file, another format, or arrays of objects.
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, TypeError) as error:
        raise ValueError(
            f"`models.{caller}`: {path} is not a complete `.npz` file of numbers. Save "
            "it again with `numpy.savez`."
        ) from error


def _assign(caller, model, given, locate, kernel_axes):
    """Assigns each array to the variable of the layer and kind that `locate` gives."""
    model_layers = {layer.name: layer for layer in model.layers}
    arrays: dict = {}
    for name, array in given.items():
        layer_name, kind = locate(name)
        layer, key = model_layers.get(layer_name), name
        if layer is not None:
            is_batch_norm = isinstance(layer, layers.BatchNormalization)
            names = BATCH_NORM_NAMES if is_batch_norm else {"weight": "kernel"}
            key = f"{layer_name}/{names.get(kind, kind)}"
        axes = kernel_axes.get(type(layer), ())
        if kind == "weight" and array.ndim == len(axes):
            array = array.transpose(axes)
        # Of two arrays for one variable, the second is reported as unexpected.
        arrays[name if key in arrays else key] = array
    variables = {
        f"{layer.name}/{v.name}": v for layer in model.layers for v in layer.weights
    }
    errors = {
        "missing": [key for key in variables if key not in arrays],
        "unexpected": [key for key in arrays if key not in variables],
        "of another shape": [
            f"{key} {arrays[key].shape} instead of {tuple(variable.shape)}"
            for key, variable in variables.items()
            if key in arrays and arrays[key].shape != tuple(variable.shape)
        ],
    }
    summary = []
    for kind, keys in errors.items():
        more = f" and {len(keys) - MAX_LISTED} more" if keys[MAX_LISTED:] else ""
        listed = ", ".join(keys[:MAX_LISTED])
        summary += [f"{len(keys)} {kind}: {listed}{more}"] if keys else []
    if summary:
        raise ValueError(
            f"`models.{caller}`: the weights do not fit `{model.name}`: "
            f"{'; '.join(summary)}. Build the network that they were trained with, "
            "with the same number of classes."
        )
    for key, variable in variables.items():
        variable.assign(arrays[key].astype("float32"))
    return model
