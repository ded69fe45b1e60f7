"""The mean divergence over all samples, for any batch size."""

import numpy as np
import pytest
from keras import ops

from keras_dtkd.metrics import TeacherStudentKL
from tests import oracles
from tests.logit_cases import CASE_NAMES, CASES, draw
from tests.tiny_models import data, student, teacher

CASE = draw((32, 4))
VALUES = oracles.kl(CASE.teacher, CASE.student)


def measure(*batches, **options):
    metric = TeacherStudentKL(**options)
    for batch in batches:
        metric.update_state(*batch)
    return float(metric.result())


def close(value):
    return pytest.approx(value, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("name", CASE_NAMES)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_equals_the_mean_of_the_formula(name, temperature):
    case = CASES[name]
    given = (
        ops.cast(ops.convert_to_tensor(z, "float32"), case.dtype)
        for z in (case.teacher, case.student)
    )
    expected = oracles.kl(case.teacher / temperature, case.student / temperature)
    result = measure(tuple(given), temperature=temperature)
    assert result == close(expected.mean())


@pytest.mark.invariant(number=2)
def test_equal_models_give_zero_and_a_shift_changes_nothing():
    assert measure((CASE.teacher, CASE.teacher)) == 0.0
    assert measure((CASE.teacher + 3.0, CASE.student - 2.0)) == close(VALUES.mean())


def test_the_teacher_is_the_first_argument():
    reverse = oracles.kl(CASE.student, CASE.teacher).mean()
    assert reverse != close(VALUES.mean())
    assert measure((CASE.student, CASE.teacher)) == close(reverse)


def test_probabilities_are_accepted():
    pair = oracles.softmax(CASE.teacher), oracles.softmax(CASE.student)
    assert measure(pair, from_logits=False) == close(VALUES.mean())


def test_a_single_output_is_binary_classification():
    pair = CASE.teacher[:, :1], CASE.student[:, :1]
    expected = oracles.kl(*(np.hstack([0 * z, z]) for z in pair)).mean()
    assert measure(pair) == close(expected)
    pair = [1 / (1 + np.exp(-z)) for z in pair]
    assert measure(pair, from_logits=False) == close(expected)


def test_it_can_be_compiled_if_the_labels_are_teacher_outputs():
    x, _ = data(40)
    small, teacher_outputs = student(), teacher(scale=1.0).predict(x, verbose=0)
    small.compile(loss="mse", metrics=[TeacherStudentKL(2.0)])
    logs = small.evaluate(
        x, teacher_outputs, batch_size=16, return_dict=True, verbose=0
    )
    expected = oracles.kl(
        teacher_outputs / 2.0, small.predict(x, verbose=0) / 2.0
    ).mean()
    assert logs["teacher_student_kl"] == close(expected)


def test_the_kind_of_outputs_is_inferred_for_each_model():
    z = draw((16, 5))
    p = oracles.softmax(z.teacher.astype("float64"))
    result = []
    for outputs in (z.teacher, p):
        metric = TeacherStudentKL()
        metric.update_state(outputs, z.student)
        result.append(float(metric.result()))
    assert result[0] == pytest.approx(result[1], rel=1e-4)
    with pytest.raises(ValueError, match="`from_logits` must be"):
        TeacherStudentKL(from_logits=None)
