"""Data that does not have the form that Keras, or the models, need."""

from collections.abc import Mapping

import keras
import numpy as np

from keras_dtkd.core import arrays
from keras_dtkd.core.issue import ERROR, WARNING, Issue
from keras_dtkd.core.layer_tree import iter_layers

# Typical magnitudes of two samples of the same data differ by less.
MAX_SCALE_RATIO = 8.0


def check_arrays(x, y, description="", caller="Distiller"):
    """Arrays that are lists of values, or have other lengths than their labels."""
    issues = check_lists({"x": x, "y": y}, description, caller)
    return issues or check_lengths(x, y, description, caller=caller)


def check_weight_lengths(x, weights, description=""):
    """Sample weights that are a list of numbers, or not one for each sample."""
    issues = check_lists({"sample_weight": weights}, description)
    return issues or check_lengths(x, weights, description, "weight")


def no_samples(description="", caller="Distiller"):
    """The issue of data without a sample."""
    message = f"`{caller}`: the {description}data holds no samples."
    return [Issue("no_samples", ERROR, message, "Give at least one.")]


def check_is_data(x):
    """What neither holds arrays nor gives batches."""
    parts = keras.tree.flatten(x) if isinstance(x, list | tuple | dict) else ()
    if parts and all(part is None for part in parts):
        message = "`Distiller`: the inputs are None, and they are not optional."
        return [Issue("no_data", ERROR, message, "Give at least one array.")]
    is_dataset = isinstance(x, keras.utils.PyDataset)
    if is_dataset or hasattr(x, "__iter__") or hasattr(x, "__next__"):
        return []
    found = "None" if x is None else type(x).__name__
    message = f"`Distiller`: the data is no array and gives no batches, but is {found}."
    hint = "Give arrays, a data set, or an iterator of batches."
    if callable(x):
        hint = f"Call it: `{getattr(x, '__name__', 'x')}()`."
    return [Issue("no_data", ERROR, message, hint)]


def check_ragged(x):
    """Ragged inputs, whose logits would be ragged too."""
    if not any(hasattr(part, "row_splits") for part in keras.tree.flatten(x)):
        return []
    message = "`Distiller`: the inputs are ragged (a `tf.RaggedTensor`)."
    hint = "Pad them, as by `x.to_tensor()`, and mask what was padded."
    return [Issue("ragged", ERROR, message, hint)]


def check_lists(data, description="", caller="Distiller"):
    """Lists of numbers or words, in which Keras would look for several arrays.

    `data` has them by the names of arguments. `description` is of the data, in
    messages: `"validation "`.
    """
    names = {"x": "inputs", "y": "labels", "sample_weight": "weights"}
    issues = []
    for argument, values in data.items():
        leaves = [] if values is None else keras.tree.flatten(values)
        leaves = [leaf for leaf in leaves if arrays.is_array_or_scalar(leaf)]
        leaves = [leaf for leaf in leaves if leaf is not None]
        if any(len(getattr(leaf, "shape", ())) == 0 for leaf in leaves):
            message = (
                f"`{caller}`: the {description}{names[argument]} are a list of single "
                "values, in which Keras would look for several arrays."
            )
            hint = f"Give one array: `np.asarray({argument})`."
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


def check_sample_weights(context):
    """Weights that make no sense: negative ones, NaN, one for each class."""
    class_weight = context.class_weight
    if class_weight is not None and context.sample.y is None:
        message = "`Distiller.fit`: `class_weight` needs labels, and the data has none."
        hint = "Leave it out, or give a `sample_weight`."
        yield Issue("invalid_weights", ERROR, message, hint)
    if class_weight is not None and not isinstance(class_weight, Mapping):
        found = type(class_weight).__name__
        message = f"`Distiller.fit`: `class_weight` must be a dict, and is a {found}."
        hint = "Give `{class: weight}`, as `dict(enumerate(weights))`."
        yield Issue("invalid_weights", ERROR, message, hint)
        class_weight = None
    if class_weight is not None:
        yield from _check_one_class_a_sample(context)
    validation = context.validation and context.validation.sample_weight
    weights = context.sample_weight
    if weights is None:
        weights = context.sample.sample_weight
    for name, nested in (
        ("class_weight", list((class_weight or {}).values())),
        ("sample_weight", weights),
        ("sample_weight of the validation data", validation),
    ):
        for leaf in keras.tree.flatten(nested):
            if leaf is not None:
                yield from _check_weights(context, name, arrays.to_numpy(leaf))


def _check_one_class_a_sample(context):
    """Labels of which Keras would take the largest for the class of `class_weight`."""
    y = context.sample.y
    if y is None or keras.tree.is_nested(y) or np.ndim(y) < 2 or np.shape(y)[-1] == 1:
        return
    counts = np.sum(arrays.to_numpy(y) > 0.5, axis=-1)
    spec = context.student_spec
    is_multilabel = spec is not None and spec.output_kind.is_multilabel
    if counts.max(initial=0) > 1 or (is_multilabel and counts.min(initial=1) < 1):
        message = (
            "`Distiller.fit`: `class_weight` is given, and a sample has several labels "
            "or none: Keras would take the first of the largest for its class."
        )
        hint = "Leave it out, and give a `sample_weight` of your own."
        yield Issue("invalid_weights", ERROR, message, hint)


def check_padding(context):
    """Padding that counts: a mask among the inputs which nothing uses.

    KerasHub's language models take `padding_mask`, and their outputs carry none.
    """
    spec, sample, held_out = context.student_spec, context.sample, context.validation
    is_compared = context.is_training or context.evaluate_distillation
    if not is_compared or any(map(_gives_mask, iter_layers(context.student))):
        return
    samples = {"data": sample._replace(x=context.inputs)}
    if held_out is not None:
        samples["validation data"] = held_out
    for name, (x, y, _, weights) in samples.items():
        mask = x.get("padding_mask") if isinstance(x, dict) else None
        if mask is None or weights is not None:
            continue
        mask = arrays.to_numpy(mask)
        if y is None:
            has_positions = spec is not None and len(spec.shape) == mask.ndim + 1
        else:
            shapes = [np.shape(part)[: mask.ndim] for part in keras.tree.flatten(y)]
            has_positions = shapes == [mask.shape]
        share = 1.0 - np.mean(mask != 0)
        if has_positions and share > 0:
            message = (
                f"`Distiller`: {share:.0%} of the positions of the {name} looked at "
                "are padding by `padding_mask`, and nothing keeps them from counting."
            )
            hint = "Give `sample_weight=padding_mask`, as KerasHub's preprocessors do."
            yield Issue("padding_counts", WARNING, message, hint)


def _gives_mask(layer):
    is_masking = isinstance(layer, keras.layers.Masking)
    return is_masking or getattr(layer, "mask_zero", False)


def _check_weights(context, name, weights):
    if weights.dtype.kind not in "iufb":
        return
    is_nan = np.isnan(weights).any()
    if is_nan or weights.min(initial=0) < 0:
        found = "NaN" if is_nan else f"a weight of {weights.min():.4g}"
        message = f"`Distiller`: `{name}` holds {found}."
        hint = "A weight is a number of at least 0; 0 leaves a sample out."
        yield Issue("invalid_weights", ERROR, message, hint)
    spec = context.student_spec
    if spec is None or spec.is_multi_output or spec.output_kind.is_multilabel:
        return
    if weights.ndim >= max(len(spec.shape), 2) and weights.shape[-1] > 1:
        message = (
            f"`Distiller`: `{name}` of shape {weights.shape} does not fit outputs of "
            f"shape {spec.shape}."
        )
        hint = "Give one number a sample, or one a position; no axis for the classes."
        yield Issue("invalid_weights", ERROR, message, hint)


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
