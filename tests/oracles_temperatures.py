"""The temperature rules' formulas by other means: float64 NumPy, none of our code.

As in `oracles`, every function takes complex numbers.
"""

import numpy as np

from tests.oracles import constant, kl, softmax


def together(student, teacher, weight):
    """One number a row, in which each of the three temperatures shows."""
    return student[..., 0] + 3.0 * teacher[..., 0] + 0.5 * weight


def cosine_similarity(
    student, teacher, min_temperature=2.0, max_temperature=6.0, counts=None
):
    """CSWT: T_i, `(...)`. `counts`: which rows are of the batch."""
    p, q = softmax(constant(teacher)), softmax(constant(student))
    c = (p * q).sum(-1) / np.sqrt((p**2).sum(-1) * (q**2).sum(-1))
    counted = c if counts is None else c[counts]
    low, high = counted.min(), counted.max()
    if high - low < 1e-12:
        return np.full(c.shape, min_temperature)
    return min_temperature + (max_temperature - min_temperature) * (high - c) / (
        high - low
    )


def standardized(student, teacher, temperature=2.0, epsilon=0.0):
    """T_s and T_t, `(..., 1)`: T times the standard deviation over C − 1."""

    def sigma(z):
        z = z - z.mean(-1, keepdims=True)
        return np.sqrt((z**2).sum(-1, keepdims=True) / (z.shape[-1] - 1) + epsilon)

    return temperature * sigma(student), temperature * sigma(teacher)


def z_score_kd(student, teacher, temperature=2.0):
    """The authors' loss: T² KL of z-scores divided by T; they add 1e-7 to σ."""

    def scores(z):
        z = z - z.mean(-1, keepdims=True)
        return z / np.sqrt((z**2).sum(-1, keepdims=True) / (z.shape[-1] - 1))

    return temperature**2 * kl(
        scores(teacher) / temperature, scores(student) / temperature
    )


def lambda_at(epoch, epochs=10, first=0.0, full=1.0):
    """Equation 11 of CTKD: λ."""
    share = min(epoch, epochs) / epochs
    return first + 0.5 * (full - first) * (1 + np.cos((1 + share) * np.pi))


def curriculum(raw, min_temperature=1.0, temperature_span=20.0):
    """Equation 12 of CTKD: τ."""
    return min_temperature + temperature_span / (1 + np.exp(-raw))


def per_sample_curriculum(
    student, teacher, kernel_1, bias_1, kernel_2, bias_2, temperature_span=20.0
):
    """Instance-wise CTKD: τ from both models' probabilities, `(..., 1)`."""
    seen = np.concatenate([softmax(constant(z)) for z in (student, teacher)], -1)
    units = seen @ kernel_1 + bias_1
    units = np.where(np.real(units) > 0, units, 0)
    return curriculum(units @ kernel_2 + bias_2, temperature_span=temperature_span)


def kd_at(tau, student, teacher):
    """`τ² KL` a sample, τ and τ² in the graph."""
    value = kl(teacher / tau, student / tau)
    return np.reshape(np.broadcast_to(tau, (*value.shape, 1)), value.shape) ** 2 * value


def gradient_of(function, array):
    """The gradient of a number with respect to any array, by complex steps."""
    array = np.asarray(array, "float64")
    out = np.empty(array.shape)
    for index in np.ndindex(*array.shape):
        step = np.zeros(array.shape, complex)
        step[index] = 1e-30j
        out[index] = np.imag(function(array + step)) / 1e-30
    return out
