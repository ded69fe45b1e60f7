"""How large the logits are, and how far from zero together."""

import numpy as np

from keras_dtkd.core import logits
from keras_dtkd.core.layer_tree import iter_layers
from keras_dtkd.functional.statistics import MASKED_LOGIT
from keras_dtkd.validation.issue import INFO, WARNING, Issue

# A sixteenth of float16's greatest number: sums over some classes still fit.
NEAR_OVERFLOW = 65504 / 16
# The share of the published rule's maxima that is the common shift: at 3 standard
# deviations it outweighs the greatest logit of most samples.
UNCENTRED = 3.0


def figures(values):
    """Range, mean, spread over the classes and common shift of logits.

    Args:
        values: NumPy, `(rows, classes)`. Masked classes count nowhere.

    Returns:
        A dict: `min`, `max`, `mean`; `std`, the deviation over the classes, and
        `shift`, the absolute mean of the classes, both means over the rows.
    """
    # Of NaN in the data something is said elsewhere.
    broken = np.isnan(values).any(-1)
    values = values if broken.all() else values[~broken]
    z = np.where(values > MASKED_LOGIT, values, np.nan).astype("float64")
    return {
        "min": float(np.nanmin(z)),
        "max": float(np.nanmax(z)),
        "mean": float(np.nanmean(z)),
        "std": float(np.nanstd(z, axis=-1).mean()),
        "shift": float(np.abs(np.nanmean(z, axis=-1)).mean()),
    }


def findings(made, found, depends):
    """Logits that float16 may not hold, and logits that are not centred.

    Args:
        made: The Distiller.
        found: The report's, with those of `figures` as `logits` of each model.
        depends: Whether a loss in use changes with a common shift.

    Returns:
        A list.
    """
    told = []
    sides = {
        "teacher": (made.teacher_reference.teacher.models, made.output_kinds[1]),
        "student": ([made.student], made.output_kinds[0]),
    }
    for role, (parts, head) in sides.items():
        own = found[role]["logits"]
        most = max(abs(own["min"]), abs(own["max"]))
        if most > NEAR_OVERFLOW:
            half = any(_half(part) for part in parts)
            told.append(
                Issue(
                    "logit_overflow",
                    WARNING if half else INFO,
                    f"The {role}'s logits reach {most:.3g}, and float16 ends at 65504"
                    f"{': the model computes in it' if half else ''}. Scale the last "
                    "layer down, or compute in bfloat16 or float32.",
                )
            )
        shift, spread = own["shift"], own["std"]
        # What a softmax forgot is no property of the model.
        if head == logits.LOGITS and shift > UNCENTRED * spread:
            told.append(
                Issue(
                    "uncentred_logits",
                    WARNING if depends else INFO,
                    f"The {role}'s logits share a shift of {shift:.3g}, with a "
                    f"deviation of {spread:.3g} over the classes. The published "
                    "DTKD rule depends on it; no probability does. Use `rule='exact'` "
                    "or 'centered'.",
                )
            )
    return told


def _half(model):
    return any(layer.compute_dtype == "float16" for layer in iter_layers(model))
