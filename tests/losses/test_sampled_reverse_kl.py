"""Estimates of the reverse KL at one token."""

import numpy as np
import pytest

from keras_dtkd.losses import KD, SampledReverseKL
from tests.gradients import value_and_grad
from tests.tensors import numpy, tensor

RNG = np.random.default_rng(0)
STUDENT, TEACHER = RNG.normal(scale=1.5, size=(2, 1, 6))


def log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


LOG_Q, LOG_P = log_softmax(STUDENT), log_softmax(TEACHER)
TOKENS = np.arange(6)


def all_tokens(estimator, weights):
    """The values of all tokens, each times its weight, as a function of the student."""
    loss = SampledReverseKL(estimator)
    teacher = tensor(np.tile(TEACHER, (6, 1)))

    def values(student):
        rows = student + tensor(np.zeros((6, 1)))
        return loss(rows, teacher, labels=tensor(TOKENS, "int32")) * tensor(weights)

    return values


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_values_are_the_formula(estimator):
    loss = SampledReverseKL(estimator)
    teacher, student = (tensor(np.tile(a, (6, 1))) for a in (TEACHER, STUDENT))
    actual = numpy(loss(student, teacher, labels=tensor(TOKENS, "int32")))
    ratio = (LOG_Q - LOG_P)[0]
    expected = ratio if estimator == "k1" else np.exp(-ratio) - 1 + ratio
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


# Weighing each token by its probability gives the expectation exactly.
@pytest.mark.parametrize(
    ("estimator", "divergence"), [("k1", "reverse_kl"), ("k3", "kl")]
)
def test_the_mean_value_is_the_reverse_kl_and_the_mean_gradient_a_kl(
    estimator, divergence
):
    q = np.exp(LOG_Q)[0]
    values, gradient = value_and_grad(all_tokens(estimator, q), STUDENT)
    assert values.sum() == pytest.approx((q * (LOG_Q - LOG_P)[0]).sum(), rel=1e-5)
    loss = KD(1.0, divergence)
    _, expected = value_and_grad(lambda x: loss(x, tensor(TEACHER)), STUDENT)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)
