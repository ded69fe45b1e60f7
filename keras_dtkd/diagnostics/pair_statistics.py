"""Sums and records of what two classifiers predict, batch by batch."""

from typing import Any

import numpy as np
from keras import ops

from keras_dtkd.core import arrays
from keras_dtkd.diagnostics.confusions import find_confusions
from keras_dtkd.diagnostics.explanation import Explanation
from keras_dtkd.functional.correlation import pearson, soft_probs
from keras_dtkd.functional.decoupled import non_target_log_probs, target_log_probs
from keras_dtkd.metrics import ExpectedCalibrationError

ROLES = ("teacher", "student")
# The curve of the gradients' share has so many points; so many samples are listed.
CURVE_POINTS, TOP_SAMPLES = 101, 10
TOP_SHARE = 0.1


class PairStatistics:
    """What is measured of two classifiers on labelled samples.

    Per sample it holds a few numbers, and no logits.

    Args:
        num_classes: Number of classes. At least 2.
        temperature: Temperature of soft labels and gradients. Positive.
    """

    def __init__(self, num_classes, temperature=4.0):
        self.temperature = temperature
        self.num_classes = num_classes
        # Sums of soft labels by class.
        shape = (num_classes, num_classes)
        self.soft_labels = {role: np.zeros(shape) for role in ROLES}
        self.calibration = {
            role: ExpectedCalibrationError(from_logits=True) for role in ROLES
        }
        self.records: list = []

    def update(self, teacher_logits, student_logits, label, weights, indices):
        """Adds a batch.

        Args:
            teacher_logits: Float32, `(batch, classes)`.
            student_logits: Float32, `(batch, classes)`.
            label: One-hot, `(batch, classes)`; zeros for a missing label.
            weights: Of the samples, `(batch,)`, or `None`.
            indices: Of the samples in the data, NumPy `(batch,)`.
        """
        teacher_logits, student_logits, label = map(
            ops.convert_to_tensor, (teacher_logits, student_logits, label)
        )
        has_label = _to_numpy(label).max(-1) > 0
        weights = np.ones(len(has_label)) if weights is None else _to_numpy(weights)
        weights = weights.reshape(-1).astype("float64") * has_label
        counts = weights > 0
        logits = {"teacher": teacher_logits, "student": student_logits}
        for role, z in logits.items():
            _check_finite(role, _to_numpy(z)[counts], indices[counts])
            # What does not count may hold NaN, which a weight of 0 would not remove.
            logits[role] = ops.where(ops.convert_to_tensor(counts)[:, None], z, 0.0)
            metric = self.calibration[role]
            metric.update_state(label, logits[role], weights.astype("float32"))
        soft = {r: soft_probs(z, self.temperature) for r, z in logits.items()}
        record = {"index": indices, "label": _to_numpy(label).argmax(-1)}
        record["weight"] = weights
        for role, z in logits.items():
            record[role] = _to_numpy(z).argmax(-1)
            record[f"{role}_confidence"] = _to_numpy(soft_probs(z, 1.0)).max(-1)
            target = target_log_probs(z, self.temperature, label)
            record[f"{role}_wrong_probability"] = np.exp(_to_numpy(target)[:, 1])
        record["correlation"] = _correlate_non_targets(logits, self.temperature, label)
        # Of T² KL(p_t ‖ p_s) by the student's logits: T (p_s − p_t).
        difference = _to_numpy(soft["student"]) - _to_numpy(soft["teacher"])
        norms = np.linalg.norm(difference.astype("float64"), axis=-1)
        record["gradient"] = self.temperature * norms
        record = {name: np.asarray(v)[counts] for name, v in record.items()}
        self.records.append(record)
        for role, p in soft.items():
            weighted = record["weight"][:, None] * _to_numpy(p)[counts]
            np.add.at(self.soft_labels[role], record["label"], weighted)

    def summarize(self, class_names):
        """The `Explanation`. A `ValueError` if no sample counts."""
        names = self.records[0] if self.records else {}
        records = {
            name: np.concatenate([record[name] for record in self.records])
            for name in names
        }
        if not len(records.get("label", ())):
            raise ValueError(
                "`explain`: no sample has both a label and a weight above 0."
            )
        rows = [records["label"] == k for k in range(self.num_classes)]
        has_correlation = self.num_classes > 2
        soft_labels = {
            role: _divide_rows(sums, [records["weight"][r].sum() for r in rows])
            for role, sums in self.soft_labels.items()
        }
        return Explanation(
            num_samples=len(records["label"]),
            temperature=float(self.temperature),
            class_names=list(class_names),
            overall=_summarize_samples(records, slice(None), has_correlation),
            classes=[
                {
                    "label": k,
                    **_summarize_samples(records, r, has_correlation),
                    **_find_nearest(soft_labels, k),
                }
                for k, r in enumerate(rows)
                if r.any()
            ],
            confusions=find_confusions(
                *(records[n] for n in ("label", *ROLES, "weight")), self.num_classes
            ),
            calibration={r: _summarize_bins(m) for r, m in self.calibration.items()},
            gradients=_summarize_gradients(records),
            soft_labels=soft_labels,
        )


def _to_numpy(values):
    return arrays.to_numpy(ops.convert_to_numpy(values))


def _check_finite(role, logits, indices):
    broken = indices[~np.isfinite(logits).all(-1)]
    if broken.size:
        raise ValueError(
            f"`explain`: the {role}'s outputs hold NaN or infinity, for "
            f"{broken.size} samples, such as sample {broken[0]}. Check its inputs and "
            "its precision, or give those samples a `sample_weight` of 0."
        )


def _correlate_non_targets(logits, temperature, label):
    """Pearson correlation of the wrong classes' distributions, of each sample."""
    teacher, student = (
        ops.exp(non_target_log_probs(logits[role], temperature, label))
        for role in ROLES
    )
    return _to_numpy(pearson(teacher, student, weights=1.0 - label))


def _divide_rows(sums, totals):
    totals = np.asarray(totals)[:, None]
    return np.divide(sums, totals, out=np.full(sums.shape, np.nan), where=totals > 0)


def _summarize_samples(records, rows, has_correlation):
    """Shares and means of some samples, as `Explanation.overall` has them."""
    part = {name: values[rows] for name, values in records.items()}
    weights = part["weight"]

    def mean(values):
        return float((weights * values).sum() / weights.sum())

    teacher, student = (part[role] == part["label"] for role in ROLES)
    is_same = part["teacher"] == part["student"]
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
        summary[name] = mean(part[name])
    correlation = mean(part["correlation"]) if has_correlation else None
    return {**summary, "soft_label_correlation": correlation}


def _find_nearest(soft_labels, label):
    """The most probable wrong class of a class, by each model's mean soft labels."""
    nearest = {}
    for role in ROLES:
        row = soft_labels[role][label].copy()
        row[label] = -1.0
        nearest[f"{role}_nearest_class"] = int(row.argmax())
        nearest[f"{role}_nearest_probability"] = float(row.max())
    return nearest


def _summarize_bins(metric):
    sums = metric.count, metric.correct, metric.confidence
    count, correct, confidence = (_to_numpy(v.value).tolist() for v in sums)
    error = float(_to_numpy(metric.result()))
    bins = {"count": count, "correct": correct, "confidence": confidence}
    return {"error": error, **bins}


def _summarize_gradients(records):
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
        "top_samples": [
            {
                "index": int(records["index"][i]),
                "label": int(records["label"][i]),
                **{
                    f"{role}_{name}": kind(records[column][i])
                    for role in ROLES
                    for name, column, kind in (
                        ("prediction", role, int),
                        ("confidence", f"{role}_confidence", float),
                    )
                },
                "gradient_norm": float(norms[i]),
                "share": float(shares[i] / total) if total else 0.0,
            }
            for i in top
        ],
    }
