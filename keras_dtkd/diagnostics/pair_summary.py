"""Numbers of an `Explanation`, from the records of all samples.

`records` has NumPy arrays `(samples,)`, by name, as `PairStatistics` collects them.
"""

from typing import Any

import numpy as np
from keras import ops

ROLES = ("teacher", "student")
# The curve of the gradients' share has so many points; so many samples are listed.
CURVE_POINTS, TOP_SAMPLES = 101, 10
TOP_SHARE = 0.1


def mean_soft_labels(sums, labels, weights):
    """`Explanation.soft_labels`, from the weighted sums by role and class."""
    num_classes = len(sums["teacher"])
    totals = np.bincount(labels, weights, num_classes)[:, None]
    empty = np.full((num_classes, num_classes), np.nan)
    return {
        role: np.divide(total, totals, out=empty.copy(), where=totals > 0)
        for role, total in sums.items()
    }


def summarize_classes(records, soft_labels):
    """`Explanation.classes`."""
    num_classes = len(soft_labels["teacher"])
    classes = []
    for label in np.unique(records["label"]):
        rows = records["label"] == label
        part = {name: values[rows] for name, values in records.items()}
        summary = summarize_samples(part, num_classes)
        nearest = _find_nearest(soft_labels, label)
        classes.append({"label": int(label), **summary, **nearest})
    return classes


def summarize_samples(records, num_classes):
    """Shares and means of samples, as `Explanation.overall` has them."""
    weights = records["weight"]

    def mean(values):
        return float((weights * values).sum() / weights.sum())

    teacher, student = (records[role] == records["label"] for role in ROLES)
    is_same = records["teacher"] == records["student"]
    both_wrong = mean(~teacher & ~student)
    same_wrong = mean(~teacher & is_same) / both_wrong if both_wrong else None
    summary: dict[str, Any] = {
        "samples": len(weights),
        "teacher_accuracy": mean(teacher),
        "student_accuracy": mean(student),
        "agreement": mean(is_same),
        "both_right": mean(teacher & student),
        "teacher_only": mean(teacher & ~student),
        "student_only": mean(~teacher & student),
        "both_wrong": both_wrong,
        "same_wrong_class": same_wrong,
    }
    for role in ROLES:
        name = f"{role}_wrong_probability"
        summary[name] = mean(records[name])
    correlation = mean(records["correlation"]) if num_classes > 2 else None
    return {**summary, "soft_label_correlation": correlation}


def _find_nearest(soft_labels, label):
    """The most probable wrong class of a class, by each model's mean soft labels."""
    nearest: dict[str, Any] = {}
    for role in ROLES:
        row = soft_labels[role][label].copy()
        row[label] = -1.0
        nearest[f"{role}_nearest_class"] = int(row.argmax())
        nearest[f"{role}_nearest_probability"] = float(row.max())
    return nearest


def summarize_bins(metric, state):
    """A model of `Explanation.calibration`, from its metric and the metric's state."""
    error = float(ops.convert_to_numpy(metric.stateless_result(state)))
    names = [variable.name for variable in metric.variables]
    bins = {
        n: ops.convert_to_numpy(v).tolist() for n, v in zip(names, state, strict=True)
    }
    return {"error": error, **bins}


def summarize_gradients(records):
    """`Explanation.gradients`."""
    weights, norms = records["weight"], records["gradient"]
    shares, total = weights * norms, (weights * norms).sum()
    # Ties in the order of the data.
    order = np.argsort(-norms, kind="stable")
    fractions = np.linspace(0, 1, CURVE_POINTS)
    x = np.concatenate([[0.0], np.cumsum(weights[order]) / weights.sum()])
    y = np.concatenate([[0.0], np.cumsum(shares[order])]) / (total or 1.0)
    top = np.argsort(-shares, kind="stable")[:TOP_SAMPLES]
    return {
        "mean_norm": float(total / weights.sum()),
        "top_share": float(np.interp(TOP_SHARE, x, y)) if total else None,
        "curve": [fractions.tolist(), np.interp(fractions, x, y).tolist()],
        "top_samples": [_describe_sample(records, i, total) for i in top],
    }


def _describe_sample(records, i, total):
    norm = float(records["gradient"][i])
    share = float(records["weight"][i] * norm / total) if total else 0.0
    sample: dict[str, Any] = {n: int(records[n][i]) for n in ("index", "label")}
    for role in ROLES:
        sample[f"{role}_prediction"] = int(records[role][i])
        sample[f"{role}_confidence"] = float(records[f"{role}_confidence"][i])
    return {**sample, "gradient_norm": norm, "share": share}
