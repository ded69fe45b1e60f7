"""What the published DTKD rule would make of these logits."""

import numpy as np
from keras import ops

from keras_dtkd.metrics import TemperatureStatistics
from keras_dtkd.temperatures.dynamic import Dynamic
from keras_dtkd.validation.issue import WARNING, Issue

# A share of samples without the published rule that is no exception any more.
MANY = 0.1


def at_risk(losses):
    """The rules in use whose weight carries gradient, so that shrinking lowers it.

    Args:
        losses: By name.

    Returns:
        A dict of `Dynamic` rules by the losses' names.
    """
    found = {}
    for name, loss in losses.items():
        for rule in loss.get_temperatures():
            if isinstance(rule, Dynamic) and rule.rule != "exact":
                if rule.stop_gradient in (None, False):
                    found[name] = rule
    return found


def depends_on_shift(losses):
    """Whether a loss in use has the published rule."""
    return any(
        isinstance(rule, Dynamic) and rule.rule == "max"
        for loss in losses.values()
        for rule in loss.get_temperatures()
    )


def figures(rows, losses):
    """Where the published rule is not defined, and its temperatures elsewhere.

    Args:
        rows: The `Rows`.
        losses: By name. The first rule at risk is measured, else the published one.

    Returns:
        A dict: `invalid_share` (a greatest logit not above 0), `floor` (see
        `Dynamic.floor`), and means and least values of both temperatures.
    """
    tops = [side.max(-1) for side in (rows.teacher, rows.student)]
    rule = next(iter(at_risk(losses).values()), None) or Dynamic(4.0, rule="max")
    statistics = TemperatureStatistics(rule)
    statistics.update_state(rows.teacher, rows.student)
    measured = {
        name: float(ops.convert_to_numpy(value))
        for name, value in statistics.result().items()
        if name.endswith(("_mean", "_min"))
    }
    invalid = (tops[0] <= 0) | (tops[1] <= 0)
    return {
        "invalid_share": float(np.mean(invalid)),
        "floor": float(rule.collapse_threshold()),
        **measured,
    }


def findings(found, losses):
    """An undefined rule and a near minimum, where a loss in use depends on them."""
    told = []
    if found["invalid_share"] > MANY and depends_on_shift(losses):
        told.append(
            Issue(
                "dtkd_invalid",
                WARNING,
                f"On {found['invalid_share']:.1%} of the samples a model's greatest "
                "logit is not above 0, where DTKD's published rule is not defined "
                "(the centred maxima take its place). Use `rule='exact'` or "
                "'centered'.",
            )
        )
    mean = found["student_temperature_mean"]
    if mean < found["floor"] and at_risk(losses):
        told.append(
            Issue(
                "dtkd_degenerate",
                WARNING,
                f"The student's mean temperature is {mean:.3g}, below "
                f"{found['floor']:.3g}: its logits are next to nothing beside the "
                "teacher's. The published DTKD loss is smallest there, whatever the "
                "student has learned. Use `rule='exact'`, or "
                "`stop_gradient='weight'`, or a longer warm-up (`warmup_epochs`).",
            )
        )
    return told
