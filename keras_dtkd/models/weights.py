"""Weights of the same networks trained elsewhere."""

import os
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from keras import layers

NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
OTHERS = {"weight": "kernel", "bias": "bias"}
# Where PyTorch's axes lie in Keras's kernels, which do not depend on the data format.
AXES = {
    layers.Conv2D: (2, 3, 1, 0),
    layers.DepthwiseConv2D: (2, 3, 0, 1),
    layers.Dense: (1, 0),
}
# What the literature's networks call their last layer.
CLASSIFIER = re.compile(r"^(fc|linear|classifier|classifier\.0)\.(?=weight$|bias$)")
# How many names an error lists of each kind.
LISTED = 10


def load_torch(model, weights):
    """Fills a network with a PyTorch `state_dict`, name by name.

    The names are those of the networks in megvii-research/mdistiller, such as
    `layer1.0.conv1.weight`, `bn1.running_mean`, `fc.bias`. A prefix `module.` and
    counters of batches are passed over, and the last layer may be called `fc`, `linear`
    or `classifier`. PyTorch is not needed.

    Args:
        model: A network of `models.get`, in either data format.
        weights: A dict of names to NumPy arrays or PyTorch tensors, or the path of an
            `.npz` file of such arrays. Of a checkpoint, pass the dict inside it:
            `torch.load(path)["model"]`.

    Returns:
        `model`.

    Raises:
        ValueError: Arrays are missing, left over, or of another shape, with their
            names; or the file cannot be read. Nothing has been changed then.
        TypeError: `weights` are neither a dict nor a path.

    Example:

    >>> models.load_torch(models.get("resnet8x4"), torch_model.state_dict())
    """
    by_name = {layer.name: layer for layer in model.layers}
    found: dict[str, np.ndarray] = {}
    for name, array in _arrays("load_torch", weights).items():
        if name.endswith("num_batches_tracked"):
            continue
        plain = CLASSIFIER.sub("logits.", name.removeprefix("module."))
        module, _, kind = plain.rpartition(".")
        layer = by_name.get(module.replace(".", "_"))
        key = _key(layer, kind) if layer is not None else name
        axes = AXES.get(type(layer), ())
        if kind == "weight" and array.ndim == len(axes):
            array = array.transpose(axes)
        # Of two arrays for one place the second is left over.
        found[name if key in found else key] = array
    return _assign("load_torch", model, found)


def load_sequential_npz(model, weights):
    """Fills a ResNet with weights whose blocks are numbered through all stages.

    In such a file `f.0` is the stem's convolution, `f.1` its batch norm, `f.3`, `f.4`,
    ... are the blocks, each with `c1`, `b1`, `c2`, `b2` and, where its shape changes,
    the shortcut's `d.0` and `d.1`; `fc` is the linear layer. Kernels lie as in Keras:
    (height, width, in, out) and (in, out).

    Args:
        model: `models.get("resnet32x4")` or another ResNet of three stages.
        weights: A dict of names to arrays, or the path of an `.npz` file of them.

    Returns:
        `model`.

    Raises:
        ValueError: As of `load_torch`.
        TypeError: Likewise.

    Example:

    >>> models.load_sequential_npz(models.get("resnet32x4"), "teacher-resnet32x4-fp16.npz")
    """
    by_name = {layer.name: layer for layer in model.layers}
    blocks = [name[:-6] for name in by_name if re.fullmatch(r"layer\d_\d+_conv1", name)]
    modules = {"f.0": "conv1", "f.1": "bn1", "fc": "logits"}
    parts = {"c1": "conv1", "b1": "bn1", "c2": "conv2", "b2": "bn2"}
    parts |= {"d.0": "downsample_0", "d.1": "downsample_1"}
    for i, block in enumerate(blocks, 3):
        modules |= {
            f"f.{i}.{short}": f"{block}_{long}" for short, long in parts.items()
        }
    found: dict[str, np.ndarray] = {}
    for name, array in _arrays("load_sequential_npz", weights).items():
        module, _, kind = name.rpartition(".")
        layer = by_name.get(modules.get(module, ""))
        found[_key(layer, kind) if layer is not None else name] = array
    return _assign("load_sequential_npz", model, found)


def _key(layer, kind):
    kinds = NORM if isinstance(layer, layers.BatchNormalization) else OTHERS
    return f"{layer.name}/{kinds.get(kind, kind)}"


def _arrays(who, weights):
    if isinstance(weights, str | os.PathLike):
        return read(who, weights)
    if not isinstance(weights, Mapping):
        raise TypeError(
            f"`models.{who}`: `weights` must be a dict of names to arrays, or the path "
            f"of an `.npz` file. Received: {type(weights).__name__}. Of a PyTorch "
            "model, pass its `state_dict()`."
        )
    arrays = {}
    for name, value in weights.items():
        if isinstance(value, dict):
            raise ValueError(
                f"`models.{who}`: {name!r} is a dict and no array. Of a checkpoint, "
                f"pass the weights alone, such as `checkpoint[{name!r}]`."
            )
        # NumPy knows nothing of gradients, other devices and bfloat16.
        if hasattr(value, "detach"):
            value = value.detach().cpu().float()
        arrays[name] = np.asarray(value)
    return arrays


def read(who, path):
    """The arrays of an `.npz` file by their names.

    Args:
        who: The function of `keras_dtkd.models` that wants them, for messages.
        path: The file.

    Raises:
        ValueError: It is no such file, or not whole.
    """
    if Path(path).suffix != ".npz":
        raise ValueError(
            f"`models.{who}`: reads `.npz` files, and {path} is none. Load it "
            "with PyTorch and pass the `state_dict`."
        )
    try:
        with np.load(path) as file:
            return dict(file)
    # Of a file that is cut short, another file by this name, arrays of objects.
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, TypeError) as error:
        raise ValueError(
            f"`models.{who}`: {path} is no whole `.npz` file of numbers. Save it "
            "again, with `numpy.savez`."
        ) from error


def _assign(who, model, arrays):
    places = {
        f"{layer.name}/{v.name}": v for layer in model.layers for v in layer.weights
    }
    shared = [key for key in places if key in arrays]
    faults = {
        "missing": [key for key in places if key not in arrays],
        "left over": [key for key in arrays if key not in places],
        "of another shape": [
            f"{key} {arrays[key].shape} instead of {tuple(places[key].shape)}"
            for key in shared
            if arrays[key].shape != tuple(places[key].shape)
        ],
    }
    if any(faults.values()):
        said = "; ".join(
            _listed(names, what) for what, names in faults.items() if names
        )
        raise ValueError(
            f"`models.{who}`: these weights are not those of `{model.name}`: {said}. "
            "Make the network that they were trained with, with as many classes."
        )
    for key in shared:
        places[key].assign(arrays[key].astype("float32"))
    return model


def _listed(names, what):
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{len(names)} {what}: {', '.join(names[:LISTED])}{more}"
