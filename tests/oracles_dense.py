"""Losses of dense detectors in float64 NumPy, one value an image, `(batch,)`."""

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def dense_class_kd(student, teacher, tau=1.0, power=1.0):
    p, q = sigmoid(teacher / tau), sigmoid(student / tau)
    kl = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    confidence = sigmoid(teacher).max(-1) ** power
    per_anchor = tau**2 * kl.sum(-1)
    return (confidence * per_anchor).sum(-1) / confidence.sum(-1)


def dense_box_kd(student, teacher, teacher_logits, distance, threshold=0.5):
    distance = DISTANCES[distance]
    values = []
    for image in range(len(student)):
        of_image = [
            distance(student[image, anchor], teacher[image, anchor])
            for anchor in range(student.shape[1])
            if sigmoid(teacher_logits[image, anchor]).max() >= threshold
        ]
        values.append(np.mean(of_image) if of_image else 0.0)
    return np.array(values)


def smooth_l1(one, other):
    return np.mean([e**2 / 2 if e < 1 else e - 0.5 for e in np.abs(one - other)])


def l1(one, other):
    return np.abs(one - other).mean()


def giou_loss(one, other, anchor=(3.0, -2.0, 20.0, 5.0)):
    """`1 − GIoU` of the boxes that the numbers mean for an anchor `(x, y, w, h)`."""
    corners = []
    for x, y, w, h in (one, other):
        center = anchor[0] + x * anchor[2], anchor[1] + y * anchor[3]
        size = anchor[2] * np.exp(w), anchor[3] * np.exp(h)
        corners.append(
            [center[i] + sign * size[i] / 2 for sign in (-1, 1) for i in range(2)]
        )
    (l1, t1, r1, b1), (l2, t2, r2, b2) = corners
    width, height = min(r1, r2) - max(l1, l2), min(b1, b2) - max(t1, t2)
    both = max(width, 0) * max(height, 0)
    union = (r1 - l1) * (b1 - t1) + (r2 - l2) * (b2 - t2) - both
    hull = (max(r1, r2) - min(l1, l2)) * (max(b1, b2) - min(t1, t2))
    return 1 - both / union + (hull - union) / hull


DISTANCES = {"smooth_l1": smooth_l1, "l1": l1, "giou": giou_loss}


def numeric_gradient(function, array, step=1e-6):
    """Of the sum of a function's values, by central differences."""
    gradient = np.zeros_like(array)
    for index in np.ndindex(array.shape):
        moved = [array.copy(), array.copy()]
        moved[0][index] += step
        moved[1][index] -= step
        gradient[index] = (function(moved[0]) - function(moved[1])).sum() / (2 * step)
    return gradient
