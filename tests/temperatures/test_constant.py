"""The constant temperature: T, T and T²."""

from keras import ops

from keras_dtkd.temperatures import Constant
from tests.logit_cases import draw

LOGITS = draw((8, 100))


def test_gives_teacher_and_student_the_temperature_and_its_square():
    given = Constant(3.0)(LOGITS.student, LOGITS.teacher)
    assert [float(ops.convert_to_numpy(t)) for t in given] == [3.0, 3.0, 9.0]


def test_a_new_temperature_is_used_at_once():
    rule = Constant(3.0)
    rule.temperature = 5.0
    given = rule(LOGITS.student, LOGITS.teacher)
    assert [float(ops.convert_to_numpy(t)) for t in given] == [5.0, 5.0, 25.0]
    assert float(rule) == 5.0
