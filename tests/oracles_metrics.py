"""Independent references for the metrics: float64 NumPy, without our code."""

import numpy as np

from tests import oracles


def calibration_error(logits, labels, bins=15, weights=None):
    """Guo et al., equation 3, bin by bin."""
    p = oracles.softmax(logits)
    weights = np.ones(len(p)) if weights is None else np.asarray(weights, "float64")
    confidence, is_correct = p.max(-1), p.argmax(-1) == labels
    error = 0.0
    for b in range(bins):
        inside = (b / bins < confidence) & (confidence <= (b + 1) / bins)
        n = weights[inside].sum()
        if n > 0:
            difference = is_correct[inside].astype(float) - confidence[inside]
            mean = (weights[inside] * difference).sum() / n
            error += n / weights.sum() * abs(mean)
    return error


def split(teacher, student, labels, temperature=1.0):
    """DKD, equations 4 to 6: the components and the total, one value per sample."""
    teacher, student = teacher / temperature, student / temperature
    y = labels[..., None]
    classes = teacher.shape[-1]
    others = np.arange(classes - 1)
    others = others + (others >= y)

    def binary_log_probs(z):
        log_p = oracles.log_softmax(z)
        rest = oracles.logsumexp(np.take_along_axis(log_p, others, -1))
        return np.concatenate([np.take_along_axis(log_p, y, -1), rest], -1)

    b_teacher, b_student = binary_log_probs(teacher), binary_log_probs(student)
    target = oracles.kl(b_teacher, b_student)
    non_target = oracles.kl(
        np.take_along_axis(teacher, others, -1), np.take_along_axis(student, others, -1)
    )
    weighted = np.exp(b_teacher[..., 1]) * non_target
    return {
        "target": target,
        "non_target": non_target,
        "weighted_non_target": weighted,
        "total": oracles.kl(teacher, student),
    }
