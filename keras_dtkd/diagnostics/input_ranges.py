"""In which range the inputs reach the two models, after their first layers."""

import keras
import numpy as np

from keras_dtkd.core import arrays
from keras_dtkd.diagnostics.first_layer_inputs import arrived
from keras_dtkd.teachers import sample_ids
from keras_dtkd.validation.issue import ERROR, INFO, WARNING, Issue

# Ranges of [0, 1], [-1, 1] and of unit variance lie within a factor of 5 of each
# other; [0, 255] is further off.
APART = 10.0
# A rescaling leaves images a range of 1 or 2. By 1/255 too many, of 0.004.
SHRUNK = 0.1
# And those that it has left as they were before, or worse, deviate by 60.
GROWN = 20.0
# A range that differs by more has been scaled.
SCALED = 0.01


def figures(made, samples):
    """Least, greatest, mean and deviation of the inputs, as given and as they arrive.

    Args:
        made: The Distiller.
        samples: Of `keras_dtkd.preparation.data_peek.Sample`.

    Returns:
        A dict of dicts: `given`, and `teacher` and `student` where they depend on it
        (see `arrived`). Empty for inputs that are no single array of numbers.
    """
    inputs = [sample_ids.model_inputs(sample.x) for sample in samples]
    arrays = [keras.tree.flatten(x) for x in inputs]
    single = all(len(leaves) == 1 for leaves in arrays)
    if not single or not np.issubdtype(arrays[0][0].dtype, np.number):
        return {}
    given = [leaves[0] for leaves in arrays]
    found = {"given": _range(given)}
    for role, model in _both(made):
        arrays = [arrived(model, x) for x in inputs]
        if all(array is not None for array in arrays):
            found[role] = _range(arrays)
    return found


def _both(made):
    teachers = made.teacher_reference.teacher.models
    # Members of an ensemble each have their own.
    return [("teacher", m) for m in teachers[:1] if len(teachers) == 1] + [
        ("student", made.student)
    ]


def _range(arrays):
    values = np.concatenate([np.ravel(array) for array in arrays]).astype("float64")
    known = values[~np.isnan(values)]
    values = known if known.size else values
    return {
        "min": float(values.min()),
        "max": float(values.max()),
        "mean": float(values.mean()),
        "std": float(values.std()),
    }


def nan(samples, heard):
    """What NaN in the data do.

    Args:
        samples: Of `keras_dtkd.preparation.data_peek.Sample`.
        heard: The `Rows`.

    Returns:
        A list.
    """
    told = [
        arrays.describe_nan_inputs(sample_ids.model_inputs(sample.x))
        for sample in samples
    ]
    where = next(filter(None, told), None)
    if where is None:
        return []
    broken = any(np.isnan(values).any() for values in heard[:2])
    does = (
        "outputs hold NaN too. Replace them, or leave those samples out."
        if broken
        else "both models give finite outputs all the same. If they are not made for "
        "that, replace the NaN."
    )
    return [
        Issue(
            "nan_inputs",
            ERROR if broken else WARNING,
            f"The data holds NaN in {where}, and {does}",
        )
    ]


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
    # well is, or that makes small inputs large on purpose; a student that is to start
    # from there is not.
    meant = sizes[wide] > (1 + SCALED) * found["given"]["std"] or wide in known
    severity = WARNING if wide == "student" and not meant else INFO
    ranges = [
        f"the {r}'s from {found[r]['min']:.3g} to {found[r]['max']:.3g}"
        for r in (wide, narrow)
    ]
    return [
        Issue(
            "input_ranges",
            severity,
            "Inputs reach the first layers with weights in different ranges: "
            f"{ranges[0]}, {ranges[1]}. If the models are not meant for that, give "
            f"the {wide} a `Rescaling` layer too.",
        )
    ]


def _misscaled(role, own, given):
    scaled = abs(own["std"] - given["std"]) > SCALED * given["std"]
    shrunk = own["max"] - own["min"] < SHRUNK
    # What was small before is made large on purpose.
    grown = min(own["std"], given["std"]) > GROWN
    if not scaled or not (shrunk or grown):
        return []
    cause = (
        "They seem to be scaled twice: take the scaling out of the data, or out of the "
        "model."
        if shrunk
        else "The layers expect inputs of a smaller range: scale the data."
    )
    return [
        Issue(
            "inputs_scaled",
            WARNING,
            f"The {role}'s first layers scale the inputs, which lie between "
            f"{given['min']:.3g} and {given['max']:.3g}, to between {own['min']:.3g} "
            f"and {own['max']:.3g}. {cause}",
        )
    ]
