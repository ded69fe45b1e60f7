"""The components equal those of DKD and add up to the total."""

import numpy as np
import pytest
from keras import ops

from keras_dtkd.metrics import TargetNonTargetSplit, TeacherStudentKL
from tests import oracles_metrics
from tests.logit_cases import CASE_NAMES, CASES, draw
from tests.tiny_models import one_hot

CASE = draw((32, 4))
Y = np.random.default_rng(3).integers(0, 4, 32)
COMPONENTS = "target", "non_target", "weighted_non_target", "total"


def measure(*batches, **options):
    metric = TargetNonTargetSplit(**options)
    for batch in batches:
        metric.update_state(*batch)
    result = metric.result()
    assert tuple(result) == COMPONENTS
    return {name: float(value) for name, value in result.items()}


def expected(case=CASE, y=Y, weights=None, temperature=1.0):
    parts = oracles_metrics.split(case.teacher, case.student, y, temperature)
    return close({k: np.average(v, weights=weights) for k, v in parts.items()})


def close(parts):
    return pytest.approx(parts, rel=2e-5, abs=1e-5)


@pytest.mark.parametrize("name", CASE_NAMES)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_equals_the_mean_of_the_formulas(name, temperature):
    case = CASES[name]
    y = np.random.default_rng(4).integers(0, case.student.shape[-1], case.student.shape)
    y = y[..., 0]
    pair = tuple(
        ops.cast(ops.convert_to_tensor(z, "float32"), case.dtype)
        for z in (case.teacher, case.student)
    )
    result = measure((y, pair), temperature=temperature)
    assert result == expected(case, y, temperature=temperature)


@pytest.mark.parametrize("name", ["100 classes", "up to 1e4", "2 classes"])
def test_target_and_weighted_non_target_add_up_to_the_total(name):
    case = CASES[name]
    y = case.student.argmax(-1)
    result = measure((y, case[1::-1]), temperature=2.0)
    total = result["target"] + result["weighted_non_target"]
    divergence = TeacherStudentKL(2.0)
    divergence.update_state(case.teacher, case.student)
    assert total == pytest.approx(result["total"], rel=1e-5)
    assert total == pytest.approx(float(divergence.result()), rel=1e-5)


def test_with_two_classes_the_non_target_components_are_zero():
    case = CASES["2 classes"]
    result = measure((case.teacher.argmax(-1), case[1::-1]))
    assert result["non_target"] == result["weighted_non_target"] == 0.0
    assert result["target"] == pytest.approx(result["total"], rel=1e-5)


@pytest.mark.invariant(number=2)
def test_equal_models_give_zero_and_a_shift_changes_nothing():
    nothing = measure((Y, (CASE.teacher, CASE.teacher)))
    assert nothing == pytest.approx(dict.fromkeys(COMPONENTS, 0.0), abs=1e-7)
    assert measure((Y, (CASE.teacher + 3.0, CASE.student - 2.0))) == expected()


@pytest.mark.parametrize("labels", [one_hot(Y), Y[:, None]], ids=["1hot", "2d"])
def test_labels_may_have_any_form(labels):
    assert measure((labels, (CASE.teacher, CASE.student))) == expected()
