"""CKD's closed form equals its authors' groups, all of them; what it cannot see."""

import numpy as np
import pytest
from keras import ops

from keras_dtkd import Distiller
from keras_dtkd.losses import CKD
from tests import oracles_ckd, tiny_models
from tests.gradients import value_and_grad
from tests.logit_cases import (
    CASE,
    CASE_NAMES,
    CASES,
    assert_batch_equals_oracle,
    assert_close,
)
from tests.tensors import tensor

LABELS = np.random.default_rng(0).integers(0, 2, 80)
ALONE = {"label_weight": 0.0}
ALL = {
    "label_weight": 2.0,
    "teacher_weight": 0.5,
    "group_sizes": (2, 1),
    "mean_penalty": 0.1,
}


def labels_of(logits):
    return LABELS[: np.prod(logits.shape[:-1])].reshape(logits.shape[:-1])


def ours(**arguments):
    loss = CKD(**arguments)

    def function(student, teacher):
        labels = (
            ops.convert_to_tensor(labels_of(student)) if loss.needs_labels else None
        )
        return loss(student, teacher, labels=labels)

    return function


def theirs(**arguments):
    def function(student, teacher):
        return oracles_ckd.ckd(student, teacher, labels_of(student), **arguments)

    return function


def results(loss, student, teacher, **further):
    """A batch's value, and the gradient of the sum of its values."""
    values, slopes = value_and_grad(
        lambda z: loss(z, tensor(teacher), **further), student
    )
    assert (values == values.flat[0]).all()
    return values.flat[0], slopes


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("case", CASE_NAMES)
@pytest.mark.parametrize("arguments", [ALONE, ALL, {**ALL, "centered": True}])
def test_equals_the_mean_over_all_groups(arguments, case):
    of_oracle = dict(arguments)
    center = of_oracle.pop("centered", False)
    assert_batch_equals_oracle(
        ours(**arguments), theirs(**of_oracle, center=center), CASES[case]
    )


@pytest.mark.parametrize("group, scale", [((1, 1), 2.0), ((2, 1), 1.5), ((1, 4), 1.25)])
def test_groups_are_a_scale_of_the_unbiased_variance(group, scale):
    value, _ = results(CKD(0.0, group_sizes=group), *CASE[:2])
    difference = CASE.student - CASE.teacher
    assert_close(value, scale * difference.var(0, ddof=1).mean(), 1e-5, value)


def test_the_optimum_lies_midway_between_teacher_and_labels():
    labels = labels_of(CASE.student)
    midway = (CASE.teacher + np.eye(100)[labels]) / 2
    assert_close(
        ops.convert_to_numpy(CKD().optimal_logits(CASE.teacher, labels)), midway, 1e-6
    )


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.5, 2.0), (0.0, 1.0), (3.0, 0.0)])
def test_gradient_is_zero_at_the_optimal_logits_plus_a_common_vector(weights):
    loss, labels = CKD(*weights), labels_of(CASE.student)
    target = ops.convert_to_numpy(loss.optimal_logits(CASE.teacher, labels))
    shared = np.linspace(-2, 5, 100)
    _, slopes = results(loss, target + shared, CASE.teacher, labels=labels)
    assert np.abs(slopes).max() < 1e-6


def test_optimal_logits_need_labels_if_the_loss_does():
    with pytest.raises(ValueError, match="`CKD.optimal_logits` needs labels"):
        CKD().optimal_logits(CASE.teacher)
    labels = np.full(len(CASE.teacher), -1)
    for target in (
        CKD(**ALONE).optimal_logits(CASE.teacher),
        CKD().optimal_logits(CASE.teacher, labels),
    ):
        assert_close(ops.convert_to_numpy(target), CASE.teacher, 1e-6)


def test_only_the_penalty_depends_on_a_vector_common_to_all_samples():
    offset = np.round(np.random.default_rng(1).normal(size=100) * 8) / 8
    arguments = {"labels": labels_of(CASE.student)}
    before, slopes = results(CKD(), *CASE[:2], **arguments)
    after, shifted = results(CKD(), CASE.student + offset, CASE.teacher, **arguments)
    assert_close(after, before, 1e-5, before)
    assert_close(shifted, slopes, 1e-6)
    loss = CKD(0.0, 0.0, mean_penalty=1.0)
    value, _ = results(loss, CASE.teacher + offset, CASE.teacher)
    assert_close(value, (offset**2).mean())


@pytest.mark.invariant(number=6)
@pytest.mark.parametrize("weight", [1 / 3, 0.17, 1 / 8, 0.01])
def test_weights_below_one_count_as_shares(weight):
    """Of all rows the same: near a sum of 1, `Σ w − 1` in a denominator explodes."""
    value, slopes = results(CKD(**ALONE), *CASE[:2])
    shares = tensor(np.full(len(CASE.student), weight))
    weighted, weighted_slopes = results(CKD(**ALONE), *CASE[:2], sample_weight=shares)
    assert_close(weighted, value, 1e-5, value)
    assert_close(weighted_slopes, slopes, 1e-5)


@pytest.mark.invariant(number=6)
@pytest.mark.parametrize("weights", [np.zeros(8), np.eye(8)[2]])
def test_variance_of_one_weighted_sample_or_none_is_zero(weights):
    value, slopes = results(
        CKD(),
        *CASE[:2],
        labels=labels_of(CASE.student),
        sample_weight=tensor(weights),
    )
    assert value == 0 and (slopes == 0).all()


@pytest.mark.parametrize("mask", [-1e9, -np.inf])
def test_all_is_finite_for_classes_masked_in_one_sample(mask):
    student, teacher = CASE.student.copy(), CASE.teacher.copy()
    student[2, 5], teacher[3, 7] = mask, mask
    value, slopes = results(
        CKD(mean_penalty=1.0), student, teacher, labels=labels_of(student)
    )
    assert 0 < value < 1e3 and np.isfinite(slopes).all()


def test_samples_without_a_label_are_excluded_from_the_label_term():
    labels = np.where(np.arange(8) < 3, -1, labels_of(CASE.student))
    value, slopes = results(CKD(1.0, 0.0), *CASE[:2], labels=labels)
    expected = oracles_ckd.ckd(
        CASE.student[3:], CASE.teacher[3:], labels[3:], 1.0, 0.0
    )[0]
    assert_close(value, expected, 1e-5, expected)
    assert (slopes[:3] == 0).all()


def test_labels_may_be_integers_or_one_hot():
    labels = labels_of(CASE.student)
    forms = labels, labels[:, None], np.eye(100, dtype="float32")[labels]
    found = [results(CKD(), *CASE[:2], labels=form)[0] for form in forms]
    assert found[0] == found[1] == found[2]


def test_missing_labels_raise_if_the_label_term_has_a_weight():
    assert CKD().needs_labels and not CKD(label_weight=0.0).needs_labels
    with pytest.raises(ValueError, match="`label_weight=0.0`"):
        CKD()(tensor(CASE.student), tensor(CASE.teacher))


@pytest.mark.invariant(number=10)
def test_data_without_labels_raises_before_the_first_step():
    x, _ = tiny_models.data(16)
    with pytest.raises(ValueError, match="`ckd` needs labels"):
        Distiller(tiny_models.teacher(), tiny_models.student(), CKD()).fit(x, verbose=0)
    history = Distiller(tiny_models.teacher(), tiny_models.student(), CKD(0.0)).fit(
        x, verbose=0
    )
    assert history.history["ckd"][0] > 0


def test_a_diverged_student_gives_nan():
    student = CASE.student.copy()
    student[2, 5] = np.nan
    values = CKD(0.0)(tensor(student), tensor(CASE.teacher))
    assert np.isnan(ops.convert_to_numpy(values)[2])


def test_defaults_are_the_authors():
    loss = CKD()
    assert (loss.label_weight, loss.teacher_weight, loss.group_sizes) == (
        1.0,
        1.0,
        (1, 1),
    )
    assert (loss.mean_penalty, loss.centered, loss.warmup_epochs) == (0.0, False, 0)
