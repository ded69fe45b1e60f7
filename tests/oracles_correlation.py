"""DIST, CSKD and R2KD again, by other means: float64 NumPy, none of our code.

All rows of a batch enter each value, so that a gradient takes one complex step for
each entry. A row of weight 2 is that row twice.
"""

import numpy as np

from tests.oracles import constant, softmax

EPSILON = 1e-8


def cosine(x, y, axis):
    """With the authors' epsilon beside the product of the norms."""
    norms = np.sqrt((x * x).sum(axis)) * np.sqrt((y * y).sum(axis))
    return (x * y).sum(axis) / (norms + EPSILON)


def pearson(x, y, axis):
    def centered(z):
        return z - z.mean(axis, keepdims=True)

    return cosine(centered(x), centered(y), axis)


def softened(student, teacher, t_student, t_teacher):
    """Both probabilities as tables of rows, whatever the axes before the classes."""
    classes = student.shape[-1]
    q, p = softmax(student / t_student), softmax(teacher / t_teacher)
    return q.reshape(-1, classes), p.reshape(-1, classes)


def both_terms(measure, student, teacher, t_student, t_teacher):
    """T_i² of each row times its distance, and (mean T)² times that of the columns."""
    q, p = softened(student, teacher, t_student, t_teacher)
    square = (t_student * t_teacher * np.ones((*student.shape[:-1], 1)))[..., 0]
    rows = 1 - measure(q, p, 1).reshape(square.shape)
    columns = 1 - measure(q, p, 0).mean()
    return square * rows, np.sqrt(square).mean() ** 2 * columns + 0 * rows


def dist(student, teacher, t_student=4.0, t_teacher=4.0, beta=1.0, gamma=1.0):
    rows, columns = both_terms(pearson, student, teacher, t_student, t_teacher)
    return beta * rows + gamma * columns


def value_term(student, teacher, t_student=4.0, t_teacher=4.0, factor=2.0):
    """R2KD's, on both axes."""
    return factor * sum(both_terms(cosine, student, teacher, t_student, t_teacher))


def column_term(student, teacher, t_student=4.0, t_teacher=4.0, alpha=2.0):
    """CSKD's, at one temperature."""
    return alpha * both_terms(cosine, student, teacher, t_student, t_teacher)[1]


def similarity_temperatures(student, teacher, min_temperature=2.0, max_temperature=6.0):
    """CSWT, `(..., 1)`, from the batch's similarities at temperature 1."""
    q, p = softmax(constant(student)), softmax(constant(teacher))
    c = cosine(q, p, -1)
    share = (c.max() - c) / max(c.max() - c.min(), 1e-12)
    return (min_temperature + (max_temperature - min_temperature) * share)[..., None]


def cskd(student, teacher):
    """The paper's two terms."""
    t = similarity_temperatures(student, teacher)
    return column_term(student, teacher) + column_term(student, teacher, t, t)


def soft_ranks(x, rank_temperature=1.0):
    """`½ + Σ_j sigmoid((x_i − x_j) / rank_temperature)`, with tanh for the sigmoid."""
    difference = (x[..., :, None] - x[..., None, :]) / rank_temperature
    return 0.5 + (0.5 + 0.5 * np.tanh(difference / 2)).sum(-1)


def soft_spearman(x, y, rank_temperature=1.0, epsilon=1e-6):
    a, b = (soft_ranks(z, rank_temperature) / z.shape[-1] for z in (x, y))
    a, b = (r - r.mean(-1, keepdims=True) for r in (a, b))

    def covariance(u, v):
        return (u * v).mean(-1) + epsilon

    return covariance(a, b) / np.sqrt(covariance(a, a) * covariance(b, b))


def rank_term(student, teacher, tau=4.0, factor=2.0, rank_temperature=1.0):
    return factor * (1 - soft_spearman(student / tau, teacher / tau, rank_temperature))


def gradient(function, z):
    """The gradient of the sum of a function's values by all entries of the batch."""
    out = np.empty(z.size)
    for k in range(z.size):
        step = np.zeros(z.size, complex)
        step[k] = 1e-30j
        out[k] = np.imag(function(z + step.reshape(z.shape)).sum()) / 1e-30
    return out.reshape(z.shape)
