"""Losses on features in float64 NumPy, from the papers' formulas.

Features are `(batch, ...)`; weights `(batch,)` count as frequencies. Each function
gives one value a sample, `(batch,)`.
"""

import numpy as np


def flat(feature):
    return feature.reshape(len(feature), -1)


def unit(rows):
    return rows / np.sqrt((rows**2).sum(-1, keepdims=True))


def fitnet(student, teacher, weights):
    return flat((student - teacher) ** 2).mean(-1)


def hidden_states_cosine(student, teacher, weights):
    cosines = (unit(student) * unit(teacher)).sum(-1)
    return flat(1 - cosines).mean(-1)


def attention_transfer(student, teacher, weights, power=2.0):
    maps = [unit(flat((np.abs(f) ** power).mean(-1))) for f in (student, teacher)]
    return ((maps[0] - maps[1]) ** 2).mean(-1)


def similarity_preserving(student, teacher, weights):
    grams = []
    for feature in (student, teacher):
        gram = flat(feature) @ flat(feature).T
        norms = [np.sqrt((weights * row**2).sum()) for row in gram]
        grams.append(gram / np.array(norms)[:, None])
    total = 0.0
    for i, one in enumerate(weights):
        for j, two in enumerate(weights):
            total += one * two * (grams[0][i, j] - grams[1][i, j]) ** 2
    return np.full(len(student), total / weights.sum() ** 2)


def huber(gap):
    gap = abs(gap)
    return gap**2 / 2 if gap < 1 else gap - 0.5


def rkd(student, teacher, weights, distance=25.0, angle=50.0):
    both = flat(student), flat(teacher)
    size, count = range(len(student)), weights.sum()
    means = []
    for rows in both:
        pairs = [
            (weights[i] * weights[j], np.linalg.norm(rows[i] - rows[j]))
            for i in size
            for j in size
            if (rows[i] != rows[j]).any()
        ]
        means.append(sum(w * d for w, d in pairs) / sum(w for w, _ in pairs))
    total = 0.0
    for i in size:
        for j in size:
            gaps = [
                np.linalg.norm(r[i] - r[j]) / m
                for r, m in zip(both, means, strict=True)
            ]
            pair = weights[i] * weights[j]
            total += distance * pair * huber(gaps[0] - gaps[1]) / count**2
            for k in size:
                cosines = []
                for rows in both:
                    one, two = rows[j] - rows[i], rows[k] - rows[i]
                    norm = np.linalg.norm(one) * np.linalg.norm(two)
                    cosines.append(one @ two / norm if norm else 0.0)
                term = pair * weights[k] * huber(cosines[0] - cosines[1])
                total += angle * term / count**3
    return np.full(len(student), total)


def contrastive(student, teacher, weights, temperature=0.07):
    pooled = [f.mean(tuple(range(1, f.ndim - 1))) for f in (student, teacher)]
    logits = unit(pooled[0]) @ unit(pooled[1]).T / temperature
    values = []
    for i, row in enumerate(logits):
        top = row.max()
        others = (weights * np.exp(row - top)).sum()
        values.append(np.log(others) + top - row[i])
    return np.array(values)


def attention_maps(student, teacher, weights):
    """`(batch, heads, time, time)`."""
    return flat((student - teacher) ** 2).mean(-1)
