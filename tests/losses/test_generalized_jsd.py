"""GeneralizedJSD equals its formula in both conventions, and has their ends."""

import numpy as np
import pytest

from keras_dtkd.losses import KD, GeneralizedJSD
from tests import oracles_pointwise
from tests.logit_cases import (
    CASE,
    CASE_NAMES,
    CASES,
    assert_close,
    assert_equals_oracle,
    digits,
    results,
)

CONVENTIONS = ("gkd", "continuous")
FORMS = [(c, beta) for c in CONVENTIONS for beta in (0.1, 0.5, 0.9)]
ENDS = [(c, beta) for c in CONVENTIONS for beta in (0.0, 1.0)]


def oracle(beta, convention, tau=1.0):
    return lambda student, teacher: (
        tau**2
        * oracles_pointwise.generalized_jsd(
            teacher / tau, student / tau, beta, convention
        )
    )


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("case", CASE_NAMES)
@pytest.mark.parametrize("convention, beta", FORMS + ENDS)
def test_equals_the_formula(convention, beta, case):
    assert_equals_oracle(
        GeneralizedJSD(beta, convention=convention),
        oracle(beta, convention),
        CASES[case],
        scale=digits(CASES[case]),
    )


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("convention, beta", [("gkd", 0.1), ("continuous", 0.9)])
def test_other_arguments_equal_the_formula(convention, beta):
    assert_equals_oracle(
        GeneralizedJSD(beta, temperature=2.0, convention=convention),
        oracle(beta, convention, 2.0),
        CASE,
    )


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_ends_are_the_two_kls_and_the_middle_is_jsd(convention):
    for beta, name in ((0, "kl"), (0.5, "jsd"), (1, "reverse_kl")):
        loss = GeneralizedJSD(beta, convention=convention)
        expected = results(KD(1.0, divergence=name))
        for found, other in zip(results(loss), expected, strict=True):
            assert_close(found, other, 1e-6, np.abs(other).max())


@pytest.mark.parametrize("end, near", [(0.0, 0.001), (1.0, 0.999)])
def test_continuous_convention_is_continuous_at_its_ends_and_gkd_jumps(end, near):
    at, close, gkd = (
        results(GeneralizedJSD(beta, 4.0, convention))[0]
        for beta, convention in (
            (end, "continuous"),
            (near, "continuous"),
            (near, "gkd"),
        )
    )
    assert np.abs(close / at - 1).max() < 0.02
    # Near its ends the published form is the distance to them times their KL.
    assert np.abs(gkd / (0.001 * at) - 1).max() < 0.02
