"""Independent references for `explain`, sample by sample: float64 and fractions."""

from fractions import Fraction
from math import comb

import numpy as np

from tests import oracles


def summary(teacher, student, labels, weights, temperature):
    """The numbers of `Explanation.overall`, but for the number of samples."""
    cells = dict.fromkeys(
        ("both_right", "teacher_only", "student_only", "neither"), 0.0
    )
    agreement = same_wrong = total = 0.0
    wrong = {"teacher": 0.0, "student": 0.0}
    correlation = 0.0
    for z_t, z_s, y, w in zip(teacher, student, labels, weights, strict=True):
        t, s = int(np.argmax(z_t)), int(np.argmax(z_s))
        names = {(1, 1): "both_right", (1, 0): "teacher_only", (0, 1): "student_only"}
        cells[names.get((int(t == y), int(s == y)), "neither")] += w
        agreement += w * (t == s)
        same_wrong += w * (t == s != y)
        p_t, p_s = (
            oracles.softmax(np.asarray(z, "float64") / temperature) for z in (z_t, z_s)
        )
        wrong["teacher"] += w * np.delete(p_t, y).sum()
        wrong["student"] += w * np.delete(p_s, y).sum()
        correlation += w * np.corrcoef(np.delete(p_t, y), np.delete(p_s, y))[0, 1]
        total += w
    neither = cells.pop("neither")
    return {
        **{name: value / total for name, value in cells.items()},
        "both_wrong": neither / total,
        "same_wrong_class": same_wrong / neither if neither else None,
        "teacher_accuracy": (cells["both_right"] + cells["teacher_only"]) / total,
        "student_accuracy": (cells["both_right"] + cells["student_only"]) / total,
        "agreement": agreement / total,
        "teacher_wrong_probability": wrong["teacher"] / total,
        "student_wrong_probability": wrong["student"] / total,
        "soft_label_correlation": correlation / total,
    }


def soft_labels(logits, labels, weights, temperature):
    """The weighted mean of the softened probabilities of each class."""
    p = oracles.softmax(logits.astype("float64") / temperature)
    return np.stack(
        [
            np.average(p[labels == k], axis=0, weights=weights[labels == k])
            for k in range(logits.shape[-1])
        ]
    )


def gradient_norms(teacher, student, temperature):
    """Of T² KL by the student's logits, differentiated numerically."""
    teacher, student = (z.astype("float64") for z in (teacher, student))

    def loss(z):
        return temperature**2 * oracles.kl(teacher / temperature, z / temperature)

    return np.sqrt((oracles.gradient(loss, student) ** 2).sum(-1))


def fisher(taken, confused, others_taken, others):
    """The one-sided p-value, in exact fractions: all tables with as many or more."""
    hits, total = taken + others_taken, confused + others
    tables = [
        Fraction(comb(confused, k) * comb(others, hits - k), comb(total, hits))
        for k in range(taken, min(confused, hits) + 1)
        if hits - k <= others
    ]
    return float(sum(tables))


def confusion(pair, labels, teacher, student, weights):
    """The counts and rates of one pair of classes, from predictions."""
    a, b = pair
    n = {"t": 0, "s": 0, "both": 0, "right": 0, "elsewhere": 0}
    w = dict.fromkeys([*n, "class"], 0.0)
    for y, t, s, weight in zip(labels, teacher, student, weights, strict=True):
        if y != a:
            continue
        happened = {
            "t": t == b,
            "s": s == b,
            "both": t == b and s == b,
            "right": t == a,
            "elsewhere": t == a and s == b,
            "class": True,
        }
        for name, is_true in happened.items():
            w[name] += weight * is_true
            if name in n:
                n[name] += int(is_true)
    table = n["both"], n["t"], n["elsewhere"], n["right"]
    return {
        "teacher_samples": n["t"],
        "student_samples": n["s"],
        "is_frequent": n["t"] >= 5,
        "teacher_rate": w["t"] / w["class"],
        "student_rate": w["s"] / w["class"],
        "taken_over_share": w["both"] / w["t"] if w["t"] else None,
        "rate_elsewhere": w["elsewhere"] / w["right"] if w["right"] else None,
        "p_value": fisher(*table) if n["t"] >= 5 and n["right"] else None,
    }
