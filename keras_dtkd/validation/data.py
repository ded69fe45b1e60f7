"""Data that does not have the form that Keras, or the models, need."""

import keras
import numpy as np

from keras_dtkd.core import arrays
from keras_dtkd.core.issue import ERROR, WARNING, Issue

# Typical magnitudes of two samples of the same data differ by less.
MAX_SCALE_RATIO = 8.0


def check_arrays(x, y, description="", caller="Distiller"):
    """Arrays that are lists of values, or have other lengths than their labels."""
    issues = check_lists(x, y, description, caller)
    return issues or check_lengths(x, y, description, caller=caller)


def no_samples(description="", caller="Distiller"):
    """The issue of data without a sample."""
    message = f"`{caller}`: the {description}data holds no samples."
    return [Issue("no_samples", ERROR, message, "Give at least one.")]


def check_lists(x, y, description="", caller="Distiller"):
    """Lists of numbers or words, in which Keras would look for several arrays.

    `description` is of the data, in messages: `"validation "`.
    """
    issues = []
    for name, values in (("inputs", x), ("labels", y)):
        leaves = [] if values is None else keras.tree.flatten(values)
        leaves = [leaf for leaf in leaves if arrays.is_array_or_scalar(leaf)]
        if any(np.ndim(leaf) == 0 for leaf in leaves):
            message = (
                f"`{caller}`: the {description}{name} are a list of single values, in "
                "which Keras would look for several arrays."
            )
            hint = f"Give one array: `np.asarray({'x' if name == 'inputs' else 'y'})`."
            issues.append(Issue("list_of_values", ERROR, message, hint))
    return issues


def check_lengths(x, y, description="", name="label", caller="Distiller"):
    """Arrays of no samples, or in which some lack their label, or their weight."""
    if not arrays.num_samples(x):
        return no_samples(description, caller)
    if y is None or arrays.num_samples(y) == arrays.num_samples(x):
        return []
    message = (
        f"`{caller}`: {arrays.num_samples(x)} {description}inputs and "
        f"{arrays.num_samples(y)} {description}{name}s."
    )
    hint = f"Give each sample its {name}."
    if any(isinstance(part, list | tuple) for part in (x, y)):
        hint += (
            " A list stands for several inputs or outputs: if its parts are samples, "
            "make one array of it with `np.stack`."
        )
    return [Issue("different_lengths", ERROR, message, hint)]


def check_scale(caller, description, x, sample):
    """Inputs beside the training data's of another magnitude: see `measure`."""
    indices = np.linspace(0, arrays.num_samples(x) - 1, arrays.PEEK_SIZE).astype(int)
    some = arrays.take_rows(x, np.unique(indices))
    leaves = keras.tree.flatten_with_path(some)
    for (path, leaf), known in zip(leaves, keras.tree.flatten(sample.x), strict=False):
        kinds = {leaf.dtype.kind, known.dtype.kind}
        # Integers on both sides are tokens, which have no scale.
        if "f" not in kinds or not kinds <= set("fiu"):
            continue
        scales = _typical_magnitudes(leaf), _typical_magnitudes(known)
        if None in scales:
            continue
        ratios = np.divide(*scales)
        if ratios.min() > MAX_SCALE_RATIO or ratios.max() < 1 / MAX_SCALE_RATIO:
            name = f" {'/'.join(map(str, path))!r}" if path else ""
            mean, usual = (f"{scale[0]:.3g}" for scale in scales)
            message = (
                f"`{caller}`: the inputs{name} of {description} have a mean size of "
                f"{mean}, those trained on of {usual}."
            )
            hint = "Are both scaled as the models expect?"
            yield Issue("inputs_scaled", WARNING, message, hint)


def _typical_magnitudes(values):
    """Mean and median magnitude of the numbers that are not 0; `None` without any.

    Few large numbers move the mean alone, two clusters of them the median.
    """
    sizes = np.abs(values[np.isfinite(values) & (values != 0)].astype("float64"))
    return (sizes.mean(), np.median(sizes)) if sizes.size else None
