"""Data that does not have the form that Keras, or the models, need."""

import keras
import numpy as np

from keras_dtkd.core import arrays
from keras_dtkd.core.issue import ERROR, WARNING, Issue

# Typical magnitudes of two samples of the same data differ by less.
MAX_SCALE_RATIO = 8.0


def check_arrays(x, y, description=""):
    """Arrays that are lists of values, or have other lengths than their labels."""
    return check_lists(x, y, description) or check_lengths(x, y, description)


def check_lists(x, y, description=""):
    """Lists of numbers or words, in which Keras would look for several arrays.

    `description` is of the data, in messages: `"validation "`.
    """
    issues = []
    for name, values in (("inputs", x), ("labels", y)):
        leaves = [] if values is None else keras.tree.flatten(values)
        leaves = [leaf for leaf in leaves if arrays.is_array_or_scalar(leaf)]
        if any(np.ndim(leaf) == 0 for leaf in leaves):
            message = (
                f"`Distiller`: the {description}{name} are a list of single values, in "
                "which Keras would look for several arrays."
            )
            hint = f"Give one array: `np.asarray({'x' if name == 'inputs' else 'y'})`."
            issues.append(Issue("list_of_values", ERROR, message, hint))
    return issues


def check_lengths(x, y, description="", name="label"):
    """Arrays of samples in which some lack their label, or their weight."""
    if y is None or arrays.num_samples(y) == arrays.num_samples(x):
        return []
    message = (
        f"`Distiller`: {arrays.num_samples(x)} {description}inputs and "
        f"{arrays.num_samples(y)} {description}{name}s."
    )
    hint = f"Give each sample its {name}."
    if any(isinstance(part, list | tuple) for part in (x, y)):
        hint += (
            " A list stands for several inputs or outputs: if its parts are samples, "
            "make one array of it with `np.stack`."
        )
    return [Issue("different_lengths", ERROR, message, hint)]


def check_input_shapes(caller, description, x, sample, errors):
    """Inputs beside the training data's that a model cannot take.

    Args:
        caller: The public class, for messages.
        description: Of the inputs, for messages: `"the exam"`.
        x: The inputs, NumPy.
        sample: The `data_peek.Sample` of the training data, without sample ids.
        errors: Exceptions by the role of the model that raised them.
    """
    return [
        Issue(
            "inputs_do_not_fit",
            ERROR,
            f"`{caller}`: the {role} cannot take the inputs of {description}: "
            f"{arrays.describe_shapes(x)}.",
            f"Those trained on are {arrays.describe_shapes(sample.x)}. Keras says: "
            f"{error}",
            error,
        )
        for role, error in errors.items()
    ]


def check_auxiliary_inputs(caller, description, x, sample, measured):
    """Inputs that do not fit, are not finite, or have another scale.

    As `check_input_shapes`, but with what `preparation.measure.measure_inputs` found.
    """
    issues = check_input_shapes(caller, description, x, sample, measured.errors)
    if issues:
        return issues
    return [
        *_check_finite(caller, description, x, measured),
        *_check_scale(caller, description, x, sample),
    ]


def _check_finite(caller, description, x, measured):
    if not measured.not_finite.size:
        return
    count = f"{measured.not_finite.size} of {arrays.num_samples(x)}"
    message = f"`{caller}`: {count} inputs of {description} hold NaN or infinity"
    hint = "Replace them, or leave those samples out."
    leaves = [leaf for leaf in keras.tree.flatten(x) if leaf.dtype.kind == "f"]
    if measured.broken_roles:
        message += f", and the {measured.broken_roles[0]}'s outputs for them are not "
        yield Issue("inputs_not_finite", ERROR, f"{message}finite.", hint)
    elif any(np.isinf(leaf).any() for leaf in leaves):
        # Finite outputs would prove nothing: a `tanh` bears it, its gradient does not.
        yield Issue("inputs_not_finite", ERROR, f"{message}.", hint)
    else:
        hint = (
            "The outputs are finite all the same; if the models are not made for that, "
            "replace them."
        )
        yield Issue("inputs_not_finite", WARNING, f"{message}.", hint)


def _check_scale(caller, description, x, sample):
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
