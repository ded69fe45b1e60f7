"""Losses that take each sample by itself, again: float64 NumPy, none of our code.

All take complex numbers, see `tests.oracles`.
"""

import numpy as np

from tests import oracles
from tests.oracles import softmax

TINY = 1e-300


def _from_mixture(r, m):
    """`Σ r log(r / m)`."""
    there = np.real(r) > TINY
    ratio = np.log(np.where(there, r, 1)) - np.log(np.where(there, m, 1))
    return np.where(there, r * ratio, 0).sum(-1)


def generalized_jsd(teacher, student, beta=0.5, convention="gkd"):
    """GKD's equation 1 from probabilities, with TRL's ends; or its weights exchanged.

    Of logits that are divided by their temperatures already.
    """
    if beta in (0, 1):
        return (oracles.reverse_kl if beta else oracles.kl)(teacher, student)
    p, q = softmax(teacher), softmax(student)
    m = beta * p + (1 - beta) * q
    from_p, from_q = _from_mixture(p, m), _from_mixture(q, m)
    if convention == "gkd":
        return beta * from_p + (1 - beta) * from_q
    return (1 - beta) * from_p + beta * from_q


def absolute(z):
    """`|z|`, with slope 0 at 0."""
    return z * np.sign(np.real(z))


def total_variation(teacher, student):
    """Half the sum of all differences of probabilities."""
    return absolute(softmax(teacher) - softmax(student)).sum(-1) / 2


def logit_mse(student, teacher, centered=False):
    difference = student - teacher
    if centered:
        difference = oracles.centered(difference)
    return (difference**2).mean(-1)


def log_sigmoid(z):
    positive = np.real(z) > 0
    away = np.where(positive, -z, z)
    return np.where(positive, 0, z) - np.log1p(np.exp(away))


def bernoulli_kl(teacher, student):
    """`p log(p / q) + (1 − p) log((1 − p) / (1 − q))` of "yes" and "no", a label."""
    value = 0
    for sign in (1, -1):
        log_p, log_q = log_sigmoid(sign * teacher), log_sigmoid(sign * student)
        value = value + np.exp(log_p) * (log_p - log_q)
    return value


def binary_kd(student, teacher, tau=4.0):
    """The mean over the labels, times τ²."""
    return tau**2 * bernoulli_kl(teacher / tau, student / tau).mean(-1)
