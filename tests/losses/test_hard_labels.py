"""HardLabels equals its formula."""

import numpy as np
import pytest
from scipy.special import log_softmax

from keras_dtkd.losses import HardLabels
from tests.logit_cases import CASE_NAMES, CASES, assert_equals_oracle, digits, results


def oracle(student, teacher):
    log_probs = log_softmax(np.maximum(student, -1e9), axis=-1)
    choice = teacher.argmax(-1)[..., None]
    return -np.take_along_axis(log_probs, choice, axis=-1)[..., 0]


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("case", CASE_NAMES)
def test_equals_the_formula(case):
    assert_equals_oracle(HardLabels(), oracle, CASES[case], scale=digits(CASES[case]))


def test_it_is_keras_cross_entropy_with_the_teachers_choice():
    student, teacher = np.array([[1.0, 2.0, 0.0]]), np.array([[0.0, 0.0, 9.0]])
    value, _ = results(HardLabels(), student, teacher)
    assert value[0] == pytest.approx(-np.log(np.exp(0) / np.exp(student).sum()))
    # Ties choose the first class.
    value, _ = results(HardLabels(), student, np.zeros((1, 3)))
    assert value[0] == pytest.approx(-log_softmax(student)[0, 0])
