"""Agreement is the fraction of samples with equal top predictions."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd.metrics import Agreement
from tests import oracles
from tests.logit_cases import draw

CASE = draw((32, 4))


def tensor(z):
    return ops.convert_to_tensor(z, "float32")


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


def test_a_smaller_last_batch_is_weighted_by_its_size():
    metric = Agreement()
    for part in (slice(0, 30), slice(30, 32)):
        metric.update_state(tensor(CASE.teacher[part]), tensor(CASE.student[part]))
    assert float(metric.result()) == pytest.approx(agrees(CASE).mean())


def test_sample_weights_are_applied():
    weights = np.arange(32.0)
    metric = Agreement()
    metric.update_state(tensor(CASE.teacher), tensor(CASE.student), weights)
    expected = np.average(agrees(CASE), weights=weights)
    assert float(metric.result()) == pytest.approx(expected)


def test_masked_steps_are_ignored():
    kept = np.array([[1, 1, 0], [1, 0, 0]])
    model = keras.Sequential(
        [keras.layers.Embedding(5, 3, mask_zero=True), keras.layers.Dense(4)]
    )
    student = model(kept * [[2, 3, 4], [1, 2, 3]])
    # The teacher agrees on one of the three unmasked steps, and on all masked ones.
    teacher = np.array(ops.convert_to_numpy(student))
    teacher[0, 0] *= -1
    teacher[1, 0] *= -1
    metric = Agreement()
    metric.update_state(tensor(teacher), student)
    assert float(metric.result()) == pytest.approx(1 / 3)


def test_half_precision_outputs_are_accepted():
    metric = Agreement()
    metric.update_state(*(ops.cast(tensor(z), "float16") for z in CASE[1::-1]))
    assert float(metric.result()) == pytest.approx(agrees(CASE).mean())


def test_serialization_restores_the_arguments():
    restored = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(Agreement(name="top_1", dtype="float32"))
    )
    assert type(restored) is Agreement
    assert (restored.name, restored.dtype) == ("top_1", "float32")
