"""The temperature by privacy equals its formula."""

import numpy as np
import pytest
from keras import ops

from keras_dtkd.losses import KD
from keras_dtkd.temperatures.privacy import PrivacyTemperature
from tests.gradients import gradient
from tests.logit_cases import draw
from tests.tensors import numpy, tensor, tensors

CASE = draw((2, 4, 10))
SCORES = np.random.default_rng(0).uniform(size=(2, 4))


def temperatures(scores=SCORES, **options):
    rule = PrivacyTemperature(2.0, 10.0, **options)
    return [numpy(t) for t in rule(*tensors(*CASE[:2]), scores=tensor(scores))]


@pytest.mark.parametrize("gamma", [1.0, 0.5, 3.0])
@pytest.mark.parametrize("student", [1.0, 2.5, "shared"])
@pytest.mark.parametrize("scale_by_t2", [False, True])
def test_equals_the_formula(gamma, student, scale_by_t2):
    options = {"student_temperature": student, "scale_by_t2": scale_by_t2}
    t_student, t_teacher, weight = temperatures(gamma=gamma, **options)
    t = 2.0 + 8.0 * SCORES**gamma
    np.testing.assert_allclose(t_teacher, t[..., None], rtol=1e-6)
    expected = t[..., None] if student == "shared" else student
    np.testing.assert_allclose(t_student, expected, rtol=1e-6)
    np.testing.assert_allclose(weight, t**2 if scale_by_t2 else 1 + 0 * t, rtol=1e-6)


def test_scores_of_zero_and_one_give_the_bounds_and_others_are_clipped():
    for gamma in (1.0, 0.5):
        _, t, _ = temperatures(np.array([[0, 1, -3, 7.0]] * 2), gamma=gamma)
        assert t[0, :, 0].tolist() == [2.0, 10.0, 2.0, 10.0]


def test_one_score_for_all_is_one_temperature_for_all():
    assert [t.shape for t in temperatures(np.array(0.25))] == [(), (), ()]
    assert temperatures(np.array(0.25))[1] == 4.0


def test_no_gradient_reaches_the_scores():
    rule = PrivacyTemperature(gamma=0.5, student_temperature="shared", scale_by_t2=True)

    def total(scores):
        pair = rule(*tensors(*CASE[:2]), scores=scores)
        return ops.sum(pair.student + pair.teacher, axis=-1) + pair.weight

    assert (gradient(total, np.where(SCORES > 0.5, 0.0, SCORES)) == 0).all()


@pytest.mark.invariant(number=7)
def test_a_changed_number_takes_effect():
    rule = PrivacyTemperature(student_temperature="shared")
    rule.minimum, rule.maximum, rule.student_temperature = 0.5, 4.5, 3.0
    pair = rule(*tensors(*CASE[:2]), scores=tensor(SCORES))
    np.testing.assert_allclose(numpy(pair.teacher)[..., 0], 0.5 + 4 * SCORES, rtol=1e-6)
    assert (numpy(pair.student) == 3.0).all()


@pytest.mark.invariant(number=10)
def test_another_loss_cannot_take_it():
    with pytest.raises(ValueError, match="use that loss"):
        KD(PrivacyTemperature())(*tensors(*CASE[:2]))
