"""Agreement is the fraction of samples with equal top predictions."""

import pytest

from keras_dtkd.metrics import Agreement
from tests import oracles
from tests.logit_cases import draw
from tests.tensors import tensor

CASE = draw((32, 4))


def agrees(case):
    return case.student.argmax(-1) == case.teacher.argmax(-1)


def test_is_the_fraction_of_equal_top_predictions():
    metric = Agreement()
    metric.update_state(tensor(CASE.teacher), tensor(CASE.student))
    assert 0 < agrees(CASE).mean() < 1
    assert float(metric.result()) == pytest.approx(agrees(CASE).mean())


def test_probabilities_are_accepted():
    metric = Agreement()
    metric.update_state(
        tensor(oracles.softmax(CASE.teacher)), tensor(oracles.softmax(CASE.student))
    )
    assert float(metric.result()) == pytest.approx(agrees(CASE).mean())
