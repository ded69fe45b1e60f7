"""The constant temperature: T, T and T²."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd.temperatures import Constant
from tests.gradients import gradient
from tests.logit_cases import draw

LOGITS = draw((8, 100))


def test_gives_teacher_and_student_the_temperature_and_its_square():
    given = Constant(3.0)(LOGITS.student, LOGITS.teacher)
    assert [float(ops.convert_to_numpy(t)) for t in given] == [3.0, 3.0, 9.0]


def test_no_gradient_reaches_the_logits():
    def total(student):
        return sum(Constant(3.0)(student, ops.convert_to_tensor(LOGITS.teacher)))

    assert (gradient(total, LOGITS.student) == 0).all()


def test_a_new_temperature_is_used_at_once():
    rule = Constant(3.0)
    rule.temperature = 5.0
    given = rule(LOGITS.student, LOGITS.teacher)
    assert [float(ops.convert_to_numpy(t)) for t in given] == [5.0, 5.0, 25.0]
    assert float(rule) == 5.0


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf, "warm"])
def test_a_temperature_not_above_zero_raises(value):
    with pytest.raises(ValueError) as error:
        Constant(value)
    assert f"temperature={value!r}" in str(error.value)


def test_serializes():
    restored = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(Constant(2.5, name="soft"))
    )
    assert type(restored) is Constant
    assert (restored.temperature, restored.name) == (2.5, "soft")
