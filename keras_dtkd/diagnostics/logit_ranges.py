"""Ranges of the logits, and DTKD's published rule on them."""

import numpy as np
from keras import ops

from keras_dtkd.core import logits as logit_kinds
from keras_dtkd.core.issue import ERROR, INFO, WARNING, Issue
from keras_dtkd.core.layer_tree import iter_layers
from keras_dtkd.core.logits import OutputKind
from keras_dtkd.functional.statistics import MASKED_LOGIT
from keras_dtkd.losses.dtkd import DTKD
from keras_dtkd.metrics import TemperatureStatistics
from keras_dtkd.temperatures.dynamic import Dynamic

# A sixteenth of float16's maximum: sums over some classes still fit.
NEAR_OVERFLOW = 65504 / 16
# In standard deviations: a larger common shift outweighs most samples' maxima.
UNCENTERED = 3.0
# A smaller share of samples without the published rule may be an exception.
MAX_INVALID_SHARE = 0.1
OTHER_RULES = "DTKD's published rule depends on it: use `rule='exact'` or 'centered'."


def compute_logit_statistics(logits):
    """Range and mean of NumPy logits `(samples, classes)` without masked classes.

    `std` is their deviation and `shift` their absolute mean, averaged over samples.
    """
    has_nan = np.isnan(logits).any(-1)
    logits = logits if has_nan.all() else logits[~has_nan]
    logits = np.where(logits > MASKED_LOGIT, logits, np.nan).astype("float64")
    return {
        "min": float(np.nanmin(logits)),
        "max": float(np.nanmax(logits)),
        "mean": float(np.nanmean(logits)),
        "std": float(np.nanstd(logits, axis=-1).mean()),
        "shift": float(np.abs(np.nanmean(logits, axis=-1)).mean()),
    }


def check_logits(role, evaluation, statistics, losses):
    """Logits near float16's maximum, with a common shift, or that are probabilities."""
    is_logits = evaluation.output_kinds[role] == OutputKind.LOGITS
    if is_logits and logit_kinds.look_like_probabilities(evaluation.logits[role]):
        message = f"The {role}'s outputs, used as logits, look like probabilities."
        hint = "Return logits, or pass `from_logits=False`."
        yield Issue("probabilities_as_logits", ERROR, message, hint)
    largest = max(abs(statistics["min"]), abs(statistics["max"]))
    if largest > NEAR_OVERFLOW:
        layers = iter_layers(evaluation.models[role])
        dtypes = {layer.compute_dtype for layer in layers}
        severity = WARNING if "float16" in dtypes else INFO
        message = f"The {role}'s logits reach {largest:.3g}; float16 ends at 65504."
        hint = "Scale the last layer down, or compute in bfloat16 or float32."
        yield Issue("logit_overflow", severity, message, hint)
    shift, std = statistics["shift"], statistics["std"]
    # The shift of logits recovered from a softmax is no property of the model.
    if is_logits and shift > UNCENTERED * std:
        severity = WARNING if uses_raw_maximum(losses) else INFO
        message = f"The {role}'s logits have a shift of {shift:.3g}, and std {std:.3g}."
        yield Issue("uncentered_logits", severity, message, OTHER_RULES)


def _dynamic_rules(losses):
    rules = [rule for loss in losses.values() for rule in loss.get_temperatures()]
    return [rule for rule in rules if isinstance(rule, Dynamic)]


def rules_with_weight_gradient(losses):
    """`Dynamic` rules whose weight the student can lower by small logits."""
    rules = _dynamic_rules(losses)
    return [r for r in rules if r.rule != "exact" and not r.stop_gradient]


def uses_raw_maximum(losses):
    """Whether a loss uses the published rule, which depends on a common shift."""
    return any(rule.rule == "max" for rule in _dynamic_rules(losses))


def compute_dtkd_statistics(logits, losses):
    """DTKD's temperatures, and where the published rule is undefined, see `Report`.

    Of the first of `rules_with_weight_gradient`, else of a rule in use, else of DTKD by
    default.
    """
    rules = *rules_with_weight_gradient(losses), *_dynamic_rules(losses)
    rule = (*rules, *DTKD().get_temperatures())[0]
    metric = TemperatureStatistics(rule)
    metric.update_state(logits["teacher"], logits["student"])
    temperatures = {
        name: float(ops.convert_to_numpy(value))
        for name, value in metric.result().items()
        if name.endswith(("_mean", "_min"))
    }
    invalid = np.any([values.max(-1) <= 0 for values in logits.values()], axis=0)
    floor = float(rule.collapse_threshold())
    return {"invalid_share": float(invalid.mean()), "floor": floor, **temperatures}


def check_dtkd_rule(statistics, losses):
    """An undefined published rule, or one near its degenerate minimum, if in use."""
    share = statistics["invalid_share"]
    if share > MAX_INVALID_SHARE and uses_raw_maximum(losses):
        message = f"On {share:.1%} of the samples a maximum logit is not above 0."
        yield Issue("dtkd_invalid", WARNING, message, OTHER_RULES)
    mean, floor = statistics["student_temperature_mean"], statistics["floor"]
    if mean < floor and rules_with_weight_gradient(losses):
        message = (
            f"The student's mean temperature is {mean:.3g}, below {floor:.3g}: there "
            "the published DTKD loss is smallest, whatever the student has learned."
        )
        hint = "Use `rule='exact'`, `stop_gradient='weight'`, or more `warmup_epochs`."
        yield Issue("dtkd_degenerate", WARNING, message, hint)
