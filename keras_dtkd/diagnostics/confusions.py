"""The confusions of two classifiers, and which of them the student took over."""

import math

import numpy as np

# A pair of classes is tested if the teacher confuses so many samples of it.
MIN_SAMPLES = 5
# A confusion counts as taken over if the student repeats at least this share of it, and
# if the test's p-value, times the number of tests, is at most this.
MIN_SHARE, SIGNIFICANCE = 0.5, 0.05


def find_confusions(labels, teacher, student, weights, num_classes):
    """Each pair of a true and a wrong class that one of the models predicts.

    Args:
        labels, teacher, student: Class of each sample and the predictions of both
            models, integers `(samples,)`.
        weights: Positive, `(samples,)`.
        num_classes: Number of classes.

    Returns:
        A list of dicts, as `Explanation.confusions` describes them.
    """
    class_weights = np.bincount(labels, weights, num_classes)
    right = labels == teacher
    right_counts = np.bincount(labels[right], minlength=num_classes)
    right_weights = np.bincount(labels[right], weights[right], num_classes)
    keys = labels * num_classes
    by_teacher, by_student = ((keys + p)[p != labels] for p in (teacher, student))
    pairs = np.unique(np.concatenate([by_teacher, by_student]))
    # By pair: both models' confusions, those of both at once, and those of the student
    # where the teacher is right.
    chosen = {
        "teacher": (teacher, ~right),
        "student": (student, student != labels),
        "both": (teacher, ~right & (student == teacher)),
        "elsewhere": (student, right & (student != labels)),
    }
    counts, sums = {}, {}
    for name, (predicted, where) in chosen.items():
        place = np.searchsorted(pairs, (keys + predicted)[where])
        counts[name] = np.bincount(place, minlength=len(pairs))
        sums[name] = np.bincount(place, weights[where], len(pairs))
    result = []
    for i, (label, predicted) in enumerate(
        zip(*divmod(pairs, num_classes), strict=True)
    ):
        confused, others = counts["teacher"][i], right_counts[label]
        p_value = None
        if confused >= MIN_SAMPLES and others:
            table = counts["both"][i], confused, counts["elsewhere"][i], others
            p_value = fisher_p_value(*map(int, table))
        result.append(
            {
                "label": int(label),
                "predicted": int(predicted),
                "teacher_samples": int(confused),
                "student_samples": int(counts["student"][i]),
                "is_frequent": bool(confused >= MIN_SAMPLES),
                "teacher_rate": float(sums["teacher"][i] / class_weights[label]),
                "student_rate": float(sums["student"][i] / class_weights[label]),
                "taken_over_share": _divide(sums["both"][i], sums["teacher"][i]),
                "rate_elsewhere": _divide(sums["elsewhere"][i], right_weights[label]),
                "p_value": p_value,
            }
        )
    tests = sum(pair["p_value"] is not None for pair in result)
    for pair in result:
        _judge(pair, tests)
    return sorted(result, key=_rank)


def _divide(part, total):
    return float(part / total) if total > 0 else None


def _judge(pair, tests):
    """Corrects the p-value for the number of tests, and decides."""
    if pair["p_value"] is not None:
        pair["p_value"] = min(1.0, pair["p_value"] * tests)
    pair["is_taken_over"] = (
        pair["p_value"] is not None
        and pair["p_value"] <= SIGNIFICANCE
        and pair["taken_over_share"] >= MIN_SHARE
    )


def _rank(pair):
    """Pairs with enough samples first, by how far the share exceeds the rate."""
    if not pair["is_frequent"]:
        return 1, -pair["teacher_samples"], -pair["student_samples"]
    excess = pair["taken_over_share"] - (pair["rate_elsewhere"] or 0.0)
    return 0, -excess, -pair["teacher_samples"]


def fisher_p_value(taken, confused, others_taken, others):
    """One-sided Fisher's exact test of a higher share among the confused samples.

    Args:
        taken: Of the `confused` samples, those that the student confuses likewise.
        confused: Number of samples that the teacher confuses.
        others_taken: Of the `others`, those that the student confuses likewise.
        others: Number of samples on which the teacher is right.

    Returns:
        The probability of `taken` or more, if the student confused as many samples in
        all, but regardless of the teacher.
    """
    total, hits = confused + others, taken + others_taken
    log_all = _log_choose(total, hits)
    return min(
        1.0,
        sum(
            math.exp(_log_choose(confused, k) + _log_choose(others, hits - k) - log_all)
            for k in range(max(taken, hits - others), min(confused, hits) + 1)
        ),
    )


def _log_choose(n, k):
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
