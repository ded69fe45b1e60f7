"""LogitMSE equals its formula, of raw logits and of centered ones."""

import numpy as np
import pytest
from keras import ops

from keras_dtkd.losses import KD, LogitMSE
from tests import oracles_pointwise
from tests.logit_cases import (
    CASE,
    CASE_NAMES,
    CASES,
    assert_close,
    assert_equals_oracle,
    results,
)
from tests.tensors import tensor

BOTH = pytest.mark.parametrize("centered", [False, True])


def oracle(centered):
    return lambda student, teacher: oracles_pointwise.logit_mse(
        student, teacher, centered
    )


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("case", CASE_NAMES)
@BOTH
def test_equals_the_formula(centered, case):
    assert_equals_oracle(LogitMSE(centered=centered), oracle(centered), CASES[case])


def test_half_the_loss_is_the_limit_of_kd_at_high_temperature():
    _, slopes = results(LogitMSE(centered=True))
    _, hot = results(KD(1e3))
    assert np.abs(2 * hot - slopes).max() < 0.02 * np.abs(slopes).max()


@pytest.mark.parametrize("mask", [-1e9, -np.inf])
@pytest.mark.parametrize("side", ["both", "student", "teacher"])
@BOTH
def test_masked_classes_are_ignored(centered, side, mask):
    loss, kept = LogitMSE(centered=centered), np.arange(100) > 4
    pair = [
        z if side not in ("both", name) else np.where(kept, z, mask)
        for name, z in zip(("student", "teacher"), CASE[:2], strict=True)
    ]
    value, slopes = results(loss, *pair)
    expected, slope = results(loss, *(z[:, kept] for z in CASE[:2]))
    assert_close(value, expected, 1e-6, expected)
    assert_close(slopes[:, kept], slope, 1e-6)
    assert (slopes[:, ~kept] == 0).all()


@pytest.mark.invariant(number=6)
@BOTH
def test_loss_of_a_sample_with_all_classes_masked_is_zero(centered):
    value, slopes = results(
        LogitMSE(centered=centered), CASE.student, 0 * CASE[1] - 1e9
    )
    assert (value == 0).all() and (slopes == 0).all()


def test_a_diverged_student_gives_nan():
    student = CASE.student.copy()
    student[2, 5] = np.nan
    values = LogitMSE()(tensor(student), tensor(CASE.teacher))
    assert np.isnan(ops.convert_to_numpy(values)[2])
