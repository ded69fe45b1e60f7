"""In which range the inputs reach the two models, after their first layers."""

import keras
import numpy as np
from keras import layers, ops

from keras_dtkd import backend
from keras_dtkd.data import to_numpy
from keras_dtkd.doctor.findings import NOTE, WARNING, Finding
from keras_dtkd.teachers.base import models

SCALES = (layers.Rescaling, layers.Normalization)
# Layers before or between them that leave a range as it is.
PASSES = (
    layers.InputLayer,
    layers.Identity,
    layers.Resizing,
    layers.CenterCrop,
    layers.Reshape,
    layers.Flatten,
    layers.Permute,
)
# Ranges of [0, 1], [-1, 1] and of unit variance lie within a factor of 5 of each
# other; [0, 255] is further off.
APART = 10.0
# A rescaling brings images to within 1 or 0.5 of 0. By 1/255 too many, to 0.004.
SHRUNK = 0.1
# And those that it has left as they were before, or worse, reach 255.
GROWN = 20.0


def figures(made, samples):
    """Least, greatest, mean and deviation of the inputs, as given and as they arrive.

    Args:
        made: The Distiller.
        samples: Of `keras_dtkd.data.Sample`.

    Returns:
        A dict of dicts: `given`, and `teacher` and `student` where their first layers
        can be told. Empty for inputs that are no single array of numbers.
    """
    arrays = [keras.tree.flatten(sample.x) for sample in samples]
    single = all(len(leaves) == 1 for leaves in arrays)
    if not single or not np.issubdtype(arrays[0][0].dtype, np.number):
        return {}
    given = [leaves[0] for leaves in arrays]
    found = {"given": _range(given)}
    for role, model in _both(made):
        first, scales = _first_layers(model)
        found[role] = _range([_through(first, x) for x in given])
        found[role]["scaling_layers"] = float(scales)
    return found


def _both(made):
    teachers = models(made.held.teacher)
    # Members of an ensemble each have their own.
    return [("teacher", m) for m in teachers[:1] if len(teachers) == 1] + [
        ("student", made.student)
    ]


def _first_layers(model):
    """The layers before any that learns, and how many of them scale."""
    found: list = []
    scales = 0
    for layer in getattr(model, "layers", []):
        if isinstance(layer, keras.Sequential):
            inner, more = _first_layers(layer)
            found, scales = found + inner, scales + more
            if len(inner) < len(layer.layers):
                break
        elif isinstance(layer, (*SCALES, *PASSES)):
            if not isinstance(layer, layers.InputLayer):
                found.append(layer)
            scales += isinstance(layer, SCALES)
        else:
            break
    return found, scales


def _through(first, x):
    if not first:
        return x
    with keras.StatelessScope(), backend.no_gradient():
        value = ops.convert_to_tensor(x)
        for layer in first:
            value = layer(value)
        return to_numpy(ops.convert_to_numpy(ops.cast(value, "float32")))


def _range(arrays):
    values = np.concatenate([np.ravel(array) for array in arrays]).astype("float64")
    return {
        "min": float(values.min()),
        "max": float(values.max()),
        "mean": float(values.mean()),
        "std": float(values.std()),
    }


def findings(found, known):
    """What the ranges tell.

    Args:
        found: What `figures` gave.
        known: Names of the models that the labels show to do well: their inputs are
            right for them.

    Returns:
        A list.
    """
    told = []
    for role in ("teacher", "student"):
        if role in found and role not in known:
            told += _misscaled(role, found[role], found["given"])
    if told or "teacher" not in found or "student" not in found:
        return told
    sizes = {role: found[role]["std"] for role in ("teacher", "student")}
    wide, narrow = sorted(sizes, key=lambda role: -sizes[role])
    if sizes[wide] <= APART * sizes[narrow]:
        return []
    # A teacher that wants 0 to 255 may be as it should be, and a student that does
    # well is; a student that is to start from there is not.
    severity = WARNING if wide == "student" and wide not in known else NOTE
    ranges = [
        f"the {r}'s from {found[r]['min']:.3g} to {found[r]['max']:.3g}"
        for r in (wide, narrow)
    ]
    return [
        Finding(
            "input_ranges",
            severity,
            f"Inputs reach the models in different ranges: {ranges[0]}, {ranges[1]} "
            "(after their `Rescaling` and `Normalization` layers). If both were not "
            f"trained for that, give the {wide} a `Rescaling` layer too.",
        )
    ]


def _misscaled(role, own, given):
    most = max(abs(own["min"]), abs(own["max"]))
    if not own["scaling_layers"] or SHRUNK <= most <= GROWN or given["std"] == 0:
        return []
    cause = (
        "They seem to be scaled twice: take the scaling out of the data, or out of the "
        "model."
        if most < SHRUNK
        else "The layers expect inputs of a smaller range: scale the data."
    )
    return [
        Finding(
            "inputs_scaled",
            WARNING,
            f"The {role}'s first layers scale the inputs, which lie between "
            f"{given['min']:.3g} and {given['max']:.3g}, to between {own['min']:.3g} "
            f"and {own['max']:.3g}. {cause}",
        )
    ]
