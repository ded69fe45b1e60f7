"""DKD equals its formula, in log space, and splits Hinton's divergence in two."""

import numpy as np
import pytest
from keras import ops

from keras_dtkd.losses import DKD, KD
from tests import oracles
from tests.gradients import value_and_grad
from tests.logit_cases import (
    CASE,
    CASE_NAMES,
    CASES,
    assert_close,
    assert_equals_oracle,
    draw,
)
from tests.tensors import tensor


def labels_of(case):
    """The teacher's first choice for half of the rows, any class for the others."""
    labels = np.random.default_rng(5).integers(
        0, case.teacher.shape[-1], case.teacher.shape[:-1]
    )
    labels[..., ::2] = case.teacher.argmax(-1)[..., ::2]
    return labels


LABELS = labels_of(CASE)


def with_labels(loss, labels):
    labels = tensor(labels, "int32")
    return lambda student, teacher: loss(student, teacher, labels=labels)


def values(loss, case=CASE, labels=LABELS):
    value = with_labels(loss, labels)(*map(tensor, case[:2]))
    return np.asarray(ops.convert_to_numpy(value), "float64")


def dkd(student, teacher, labels, tau=4.0, alpha=1.0, beta=8.0):
    """Both divergences from logits: the label's beside the others' sum, and these."""
    is_label = labels[..., None] == np.arange(student.shape[-1])

    def split(z):
        others = z[~is_label].reshape(*z.shape[:-1], -1)
        pair = np.stack([z[is_label].reshape(z.shape[:-1]), total(others)], axis=-1)
        return pair, others

    def total(z):
        return oracles.logsumexp(z)[..., 0]

    (pair_t, others_t), (pair_s, others_s) = split(teacher / tau), split(student / tau)
    target = oracles.kl(pair_t, pair_s)
    return tau**2 * (alpha * target + beta * oracles.kl(others_t, others_s))


def oracle(labels, *args):
    return lambda student, teacher: dkd(student, teacher, labels, *args)


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("case", CASE_NAMES)
def test_equals_the_formula(case):
    case = CASES[case]
    labels = labels_of(case)
    assert_equals_oracle(with_labels(DKD(), labels), oracle(labels), case)


@pytest.mark.invariant(number=5)
def test_other_arguments_equal_the_formula():
    assert_equals_oracle(
        with_labels(DKD(2.0, 0.5, 2.0), LABELS),
        oracle(LABELS, 2.0, 0.5, 2.0),
        CASE,
    )


def test_kd_is_the_target_term_plus_a_share_of_the_non_target_term():
    """KL = TCKD + (1 − p_t,y) · NCKD."""
    target, others = values(DKD(alpha=1.0, beta=0.0)), values(DKD(alpha=0.0, beta=1.0))
    p = oracles.softmax(CASE.teacher / 4.0)[np.arange(8), LABELS]
    assert_close(target + (1 - p) * others, values(KD()), 1e-5, values(KD()))


@pytest.mark.invariant(number=6)
@pytest.mark.parametrize("case", ["2 classes", "far"])
def test_non_target_term_of_two_classes_is_zero_and_all_is_finite(case):
    case = CASES["2 classes"] if case == "2 classes" else 2e3 * CASE.student[:, :2]
    student, teacher = case[:2] if isinstance(case, tuple) else (case, -case)
    function = with_labels(DKD(alpha=0.0), labels_of(CASES["2 classes"]))
    value, gradient = value_and_grad(lambda z: function(z, tensor(teacher)), student)
    assert (value == 0).all() and (gradient == 0).all()
    function = with_labels(DKD(), labels_of(CASES["2 classes"]))
    value, gradient = value_and_grad(lambda z: function(z, tensor(teacher)), student)
    assert np.isfinite(value).all() and np.isfinite(gradient).all()


@pytest.mark.invariant(number=6)
@pytest.mark.parametrize("gap", [80.0, 420.0, 2e4])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_all_is_finite_for_a_confident_student(gap, dtype):
    """The authors' code is infinite from a gap of 420 on; in float16 from 70 on."""
    student = CASE.student.copy()
    student[np.arange(8), LABELS] += gap
    function = with_labels(DKD(), LABELS)
    value, gradient = value_and_grad(
        lambda z: function(z, tensor(CASE.teacher)), student, dtype=dtype
    )
    assert np.isfinite(gradient).all()
    assert_close(value, dkd(student, CASE.teacher, LABELS), 2e-3, value)


@pytest.mark.parametrize("form", ["column", "one-hot", "soft", "float"])
def test_labels_of_any_format_give_the_same_loss(form):
    hard = np.eye(100)[LABELS]
    given = {
        "column": LABELS[:, None],
        "one-hot": hard,
        # The greatest class is the label.
        "soft": 0.9 * hard + 0.1 / 100,
        "float": LABELS.astype("float64"),
    }[form]
    value = DKD()(*map(tensor, CASE[:2]), labels=tensor(given))
    assert np.array_equal(ops.convert_to_numpy(value), values(DKD()))


def test_each_label_of_a_sigmoid_output_is_a_pair():
    case = draw((8, 3, 2))
    labels = np.random.default_rng(0).integers(0, 2, (8, 3))
    value = values(DKD(), case, labels)
    assert value.shape == (8, 3)
    assert_close(value, dkd(*case[:2], labels), 1e-5, value)


def test_loss_of_a_sample_without_a_label_is_zero():
    labels = LABELS.copy()
    labels[2] = -1
    function = with_labels(DKD(), labels)
    value, gradient = value_and_grad(
        lambda z: function(z, tensor(CASE.teacher)), CASE.student
    )
    assert value[2] == 0 and (gradient[2] == 0).all()
    rest = np.arange(8) != 2
    assert np.array_equal(value[rest], values(DKD()).astype("float32")[rest])


def test_defaults_are_the_authors():
    loss = DKD()
    assert (loss.alpha, loss.beta, loss.warmup_epochs, loss.weight) == (1, 8, 20, 1)
    assert float(loss.temperature) == 4.0
