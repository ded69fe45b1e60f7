"""The papers' formulas again, by other means: float64 NumPy, none of our code.

Every function also takes complex numbers: `gradient` differentiates by a complex
step, which is exact to rounding, and `constant` is the papers' stop-gradient.
"""

import numpy as np


def constant(z):
    """What a gradient does not see."""
    return np.real(z)


def maximum(z):
    """The greatest logit, `(..., 1)`; ties share its gradient evenly."""
    top = np.real(z) == np.real(z).max(-1, keepdims=True)
    return (z * top).sum(-1, keepdims=True) / top.sum(-1, keepdims=True)


def logsumexp(z):
    top = np.real(z).max(-1, keepdims=True)
    return top + np.log(np.exp(z - top).sum(-1, keepdims=True))


def log_softmax(z):
    return z - logsumexp(z)


def softmax(z):
    return np.exp(log_softmax(z))


def centered(z):
    return z - z.mean(-1, keepdims=True)


def deviation(z):
    return np.sqrt((centered(z) ** 2).mean(-1, keepdims=True))


def sharpness(z):
    """Equation 2 of DTKD, of centered logits, `(..., 1)`."""
    return logsumexp(centered(z))


def kl(teacher, student):
    """`Σ p log(p / q)` of logits that are divided by their temperatures already."""
    p = softmax(teacher)
    return np.where(p != 0, p * (log_softmax(teacher) - log_softmax(student)), 0).sum(
        -1
    )


def reverse_kl(teacher, student):
    return kl(student, teacher)


def jsd(teacher, student):
    """From probabilities: the mean of both divergences from `(p + q) / 2`."""
    p, q = softmax(teacher), softmax(student)
    m = (p + q) / 2

    def from_mixture(r):
        # Below it the mixture of two denormal numbers rounds to 0.
        there = np.real(r) > 1e-300
        ratio = np.log(np.where(there, r, 1)) - np.log(np.where(there, m, 1))
        return np.where(there, r * ratio, 0).sum(-1)

    return (from_mixture(p) + from_mixture(q)) / 2


DIVERGENCES = {"kl": kl, "reverse_kl": reverse_kl, "jsd": jsd}


def published_temperatures(student, teacher, tau):
    """The authors' code: signed maxima of raw logits, nothing guarded."""
    x, y = maximum(teacher), maximum(student)
    return 2 * y * tau / (x + y), 2 * x * tau / (x + y)


def equal_sharpness(student, teacher, tau, min_temperature):
    """Equation 3, by bisection over δ: sharpness(u/(τ+δ)) = sharpness(v/(τ-δ))."""
    # A gradient by complex steps asks for the same constants at every step.
    inputs = constant(student), constant(teacher), tau, min_temperature
    arrays = [np.asarray(a, "float64") for a in inputs]
    key = tuple((a.shape, a.tobytes()) for a in arrays)
    if key not in _SOLUTIONS:
        _SOLUTIONS.clear()
        _SOLUTIONS[key] = _bisect(*arrays)
    return tuple(t.copy() for t in _SOLUTIONS[key])


_SOLUTIONS: dict = {}


def _bisect(student, teacher, tau, min_temperature):
    low = np.full((*student.shape[:-1], 1), min_temperature - tau)
    high = -low
    for _ in range(60):
        delta = (low + high) / 2
        # For centered logits the difference falls as δ grows.
        sharper = sharpness(teacher / (tau + delta)) > sharpness(
            student / (tau - delta)
        )
        low, high = np.where(sharper, delta, low), np.where(sharper, high, delta)
    both_constant = (deviation(student) == 0) & (deviation(teacher) == 0)
    delta = np.where(both_constant, 0, (low + high) / 2)
    return tau - delta, tau + delta


def temperatures(student, teacher, tau=4.0, rule="exact", min_temperature=None):
    """T_s and T_t, `(..., 1)` each, by any of the four rules."""
    if rule == "exact":
        return equal_sharpness(student, teacher, tau, min_temperature or 1e-6 * tau)
    if rule == "std":
        x, y = deviation(teacher), deviation(student)
    else:
        x, y = maximum(centered(teacher)), maximum(centered(student))
    if rule == "max":
        raw_x, raw_y = maximum(teacher), maximum(student)
        published = (np.real(raw_x) > 0) & (np.real(raw_y) > 0)
        x, y = np.where(published, raw_x, x), np.where(published, raw_y, y)
    both_constant = np.real(x + y) == 0
    x, y = np.where(both_constant, 1, x), np.where(both_constant, 1, y)
    t_student, t_teacher = 2 * y * tau / (x + y), 2 * x * tau / (x + y)
    if min_temperature is not None:
        for t, other in ((t_student, t_teacher), (t_teacher, t_student)):
            below = np.real(t) < min_temperature
            t[below], other[below] = min_temperature, 2 * tau - min_temperature
    return t_student, t_teacher


def kd(student, teacher, tau=4.0, divergence="kl"):
    """Hinton's term: `τ² D(softmax(u/τ), softmax(v/τ))`."""
    return tau**2 * DIVERGENCES[divergence](teacher / tau, student / tau)


def dtkd(
    student,
    teacher,
    tau=4.0,
    alpha=3.0,
    beta=1.0,
    rule="exact",
    stop_gradient=None,
    min_temperature=0.1,
    divergence="kl",
):
    """`α T_s T_t KL(p(T_t) ‖ q(T_s)) + β τ² KL(p(τ) ‖ q(τ))`, a value a sample."""
    t_student, t_teacher = temperatures(student, teacher, tau, rule, min_temperature)
    if stop_gradient is True or rule == "exact":
        t_student, t_teacher = constant(t_student), constant(t_teacher)
    weight = (t_student * t_teacher)[..., 0]
    if stop_gradient == "weight":
        weight = constant(weight)
    dynamic = DIVERGENCES[divergence](teacher / t_teacher, student / t_student)
    return alpha * weight * dynamic + beta * kd(student, teacher, tau)


def published_dtkd(student, teacher, tau=4.0, alpha=3.0, beta=1.0):
    """The authors' `dtkd_loss` and `kd_loss`, line by line, gradient through all."""
    t_student, t_teacher = published_temperatures(student, teacher, tau)
    p, log_p = softmax(teacher / t_teacher), log_softmax(teacher / t_teacher)
    log_q = log_softmax(student / t_student)
    dynamic = (p * (log_p - log_q)).sum(-1) * (t_teacher * t_student)[..., 0]
    p, log_p = softmax(teacher / tau), log_softmax(teacher / tau)
    fixed = (p * (log_p - log_softmax(student / tau))).sum(-1) * tau**2
    return alpha * dynamic + beta * fixed


def gradient(function, z):
    """The gradient of a function of each sample's logits, by complex steps."""
    out = np.empty(z.shape)
    for k in range(z.shape[-1]):
        step = np.zeros(z.shape[-1], complex)
        step[k] = 1e-30j
        out[..., k] = np.imag(function(z + step)) / 1e-30
    return out
