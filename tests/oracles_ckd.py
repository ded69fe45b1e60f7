"""CKD as its authors have it, by going through all groups: float64 NumPy."""

import functools
import itertools

import numpy as np

from tests.oracles import centered


@functools.cache
def groups(rows, p, q):
    """All pairs of disjoint groups, `(groups, rows)`: 1/p and −1/q of their members."""
    found = []
    for first in itertools.combinations(range(rows), p):
        others = [row for row in range(rows) if row not in first]
        for second in itertools.combinations(others, q):
            weights = np.zeros(rows)
            weights[list(first)], weights[list(second)] = 1 / p, -1 / q
            found.append(weights)
    return np.array(found).reshape(-1, rows)


def comparison(student, target, group_sizes):
    """Mean over all groups and classes of `(Δ_s − Δ_target)²`."""
    delta = groups(len(student), *group_sizes)
    if not len(delta):
        return 0.0
    return ((delta @ student - delta @ target) ** 2).mean()


def ckd(
    student,
    teacher,
    labels=None,
    label_weight=0.0,
    teacher_weight=1.0,
    group_sizes=(1, 1),
    mean_penalty=0.0,
    center=False,
):
    """The same value for each row. Labels are integers, of the rows' shape."""
    shape, classes = student.shape[:-1], student.shape[-1]
    student, teacher = (z.reshape(-1, classes) for z in (student, teacher))
    if center:
        student, teacher = centered(student), centered(teacher)
    value = teacher_weight * comparison(student, teacher, group_sizes)
    value = value + mean_penalty * ((student - teacher).mean(0) ** 2).mean()
    if labels is not None:
        target = np.eye(classes)[labels.reshape(-1)]
        value = value + label_weight * comparison(student, target, group_sizes)
    return value * np.ones(shape)
