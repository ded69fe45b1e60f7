"""Whether the inputs have the scale that the models expect."""

import keras
import numpy as np
from keras import layers, ops

from keras_dtkd import backend
from keras_dtkd.core import arrays
from keras_dtkd.core.issue import ERROR, INFO, WARNING, Issue
from keras_dtkd.core.layer_tree import iter_layers
from keras_dtkd.diagnostics import teacher_quality as quality
from keras_dtkd.training.feature_capture import patch_calls

# [0, 1], [-1, 1] and unit variance differ by a factor of 5 at most, [0, 255] by more.
MAX_RANGE_RATIO = 10.0
# Rescaled images have a range of 1 or 2; rescaled twice by 1/255, one of 0.004.
MIN_RANGE = 0.1
# Images that were not rescaled deviate by 60.
MAX_STD = 20.0
# A relative change of the deviation by more is a rescaling.
SCALE_TOLERANCE = 0.01
SCALINGS = {"multiplied by 255": 255.0, "divided by 255": 1 / 255}
# A scaling that lowers the negative log-likelihood (NLL) to this share is the right one
# even at the same accuracy: the confidence was off by orders of magnitude. For an
# overconfident teacher, which may have overfit, it must be lower by far.
MAX_NLL_RATIO, OVERCONFIDENT_NLL_RATIO = 0.3, 0.02
# Up to this multiple of a guess's NLL, a teacher is unsure and not overconfident.
UNSURE_RATIO = 1.1
MIN_LABELS = 30  # Fewer are no evidence of the confidence.


def compute_input_statistics(models, inputs, teacher_inputs=None):
    """Range, mean and deviation of a single numeric input, as given and by role.

    `teacher_inputs` are the teacher's, if not the same. By role those of
    `first_weighted_layer_input`, unless the teacher is an ensemble.
    """
    given = [keras.tree.flatten(x) for x in inputs]
    is_single = all(len(leaves) == 1 for leaves in given)
    if not is_single or not np.issubdtype(given[0][0].dtype, np.number):
        return {}
    statistics = {"given": _range([leaves[0] for leaves in given])}
    for role, members in models.items():
        if len(members) == 1:
            own = teacher_inputs if role == "teacher" else None
            scaled = [first_weighted_layer_input(members[0], x) for x in own or inputs]
            if all(values is not None for values in scaled):
                statistics[role] = _range(scaled)
    return statistics


def _range(batches):
    values = np.concatenate([np.ravel(batch) for batch in batches]).astype("float64")
    known = values[~np.isnan(values)]
    values = known if known.size else values
    names = ("min", "max", "mean", "std")
    return {name: float(getattr(values, name)()) for name in names}


def first_weighted_layer_input(model, x):
    """What reaches a model's first layer with weights, in inference mode; NumPy.

    `None` for several inputs, and where a normalization makes their scale irrelevant.
    """
    first: list = []

    def record_first(layer, call):
        def wrapped(*args, **kwargs):
            if not first:
                first.extend((layer, [*args, *kwargs.values()][0]))
            return call(*args, **kwargs)

        return layer, wrapped

    watched = [layer for layer in iter_layers(model) if _is_scale_sensitive(layer)]
    wrapped = [record_first(layer, layer.call) for layer in watched]
    x = arrays.to_tensors(x)
    with patch_calls(wrapped), keras.StatelessScope(), backend.no_grad():
        model(x, training=False)
    layer, inputs = first or (None, ())
    if _is_normalization(layer) or keras.tree.is_nested(inputs):
        return None
    return ops.convert_to_numpy(ops.cast(inputs, "float32"))


def _is_scale_sensitive(layer):
    if isinstance(layer, keras.Model | layers.Normalization):
        return False
    # The inner layers of these are called in loops that a backend compiles.
    is_outermost = isinstance(layer, layers.RNN | layers.Wrapper)
    inner = [part for part in iter_layers(layer) if part is not layer]
    has_weights = layer.weights and (is_outermost or not any(p.weights for p in inner))
    return _is_normalization(layer) or bool(has_weights)


def _is_normalization(layer):
    """By its name, since there are custom ones."""
    is_known = isinstance(layer, layers.Normalization | layers.Wrapper)
    return not is_known and "norm" in type(layer).__name__.lower()


def check_nan_inputs(inputs, logits):
    """NaN in the inputs: an error where the outputs hold NaN too."""
    location = next(filter(None, map(arrays.describe_nan_inputs, inputs)), None)
    if location is not None:
        is_broken = any(np.isnan(values).any() for values in logits.values())
        outputs = "hold NaN too" if is_broken else "are finite"
        message = f"The data holds NaN in {location}; the outputs {outputs}."
        severity = ERROR if is_broken else WARNING
        yield Issue("nan_inputs", severity, message, "Replace them if not intended.")


def check_input_ranges(statistics, accurate_models):
    """Inputs that are rescaled twice or not at all, or by one of the models only."""
    stds = {r: statistics[r]["std"] for r in ("teacher", "student") if r in statistics}
    issues: list = []
    for role in [role for role in stds if role not in accurate_models]:
        issues += _check_double_rescaling(role, statistics[role], statistics["given"])
    if issues or len(stds) < 2:
        return issues
    wide, narrow = sorted(stds, key=lambda role: -stds[role])
    if stds[wide] <= MAX_RANGE_RATIO * stds[narrow]:
        return []
    # A wide range may be intended: of a teacher for [0, 255], of an accurate student,
    # and where a model itself enlarges its inputs.
    enlarged = stds[wide] > (1 + SCALE_TOLERANCE) * statistics["given"]["std"]
    is_intended = wide == "teacher" or enlarged or wide in accurate_models
    ranges = [f"the {r}'s in {_interval(statistics[r])}" for r in (wide, narrow)]
    message = f"Inputs reach the first layers with weights {' and '.join(ranges)}."
    hint = f"If that is not intended, give the {wide} a `Rescaling` layer too."
    return [Issue("input_ranges", INFO if is_intended else WARNING, message, hint)]


def _check_double_rescaling(role, scaled, given):
    is_scaled = abs(scaled["std"] - given["std"]) > SCALE_TOLERANCE * given["std"]
    is_small = scaled["max"] - scaled["min"] < MIN_RANGE
    # Small inputs are enlarged on purpose.
    is_large = min(scaled["std"], given["std"]) > MAX_STD
    if is_scaled and (is_small or is_large):
        ranges = f"from {_interval(given)} to {_interval(scaled)}"
        message = f"The {role}'s first layers scale the inputs {ranges}."
        twice = "Remove a second scaling, from the data or from the model."
        hint = twice if is_small else "Scale the data to a smaller range."
        yield Issue("inputs_scaled", WARNING, message, hint)


def _interval(ranges):
    return f"[{ranges['min']:.3g}, {ranges['max']:.3g}]"


def find_better_scaling(teacher_logits, inputs, before, labels):
    """`(name, accuracy)` of the scaling under which the teacher is much better.

    Better than its logits `before`, by NLL; or `None`. Networks may predict the same
    classes on any scale, but are calibrated only on one.
    """
    leaves = zip(*map(keras.tree.flatten, inputs), strict=True)
    is_scalable = [all(map(_is_scalable, batches)) for batches in leaves]
    if teacher_logits is None or not any(is_scalable):
        return None

    def scale(x, factor):
        leaves = zip(keras.tree.flatten(x), is_scalable, strict=True)
        scaled = [a.astype("float32") * factor if s else a for a, s in leaves]
        return keras.tree.pack_sequence_as(x, scaled)

    scores = []
    for name, factor in SCALINGS.items():
        logits = teacher_logits(lambda x: scale(x, np.float32(factor)))  # noqa: B023
        nll = quality.negative_log_likelihood(logits, labels)
        scores.append((nll, quality.compute_accuracy(logits, labels), name))
    nll, accuracy, best = min(scores)
    gain = accuracy - quality.compute_accuracy(before, labels)
    nll_before = quality.negative_log_likelihood(before, labels)
    entropy, num_labels = quality.label_entropy(labels), (labels >= 0).sum()
    is_unsure = nll_before <= UNSURE_RATIO * entropy
    ratio = MAX_NLL_RATIO if is_unsure else OVERCONFIDENT_NLL_RATIO
    is_confident = nll <= min(ratio * nll_before, quality.MAX_NLL_SHARE * entropy)
    is_better = is_confident and gain >= 0 and num_labels >= MIN_LABELS
    if is_better or quality.is_significant(gain, num_labels, nll, entropy):
        return best, accuracy
    return None


def _is_scalable(array):
    """Whether these are real numbers or pixels; token IDs have no scale."""
    is_real = np.issubdtype(array.dtype, np.floating) or array.dtype == np.uint8
    return is_real and np.isfinite(array).all()


def scaling_issue(scaling, before):
    """The issue for a result of `find_better_scaling`."""
    name, accuracy = scaling
    message = (
        f"The teacher's accuracy on the inputs as given is {before:.1%}; on inputs "
        f"{name} it is {accuracy:.1%}, with a confidence that fits."
    )
    hint = "Look for a rescaling done twice (in the data and in the model) or missing."
    return Issue("inputs_scaled", ERROR, message, hint)
