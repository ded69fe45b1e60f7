"""The mean divergence, over all samples however they are batched."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd.metrics import TeacherStudentKL
from tests import oracles
from tests.logit_cases import CASES, draw
from tests.tiny_models import data, student, teacher

CASE = draw((32, 4))
VALUES = oracles.kl(CASE.teacher, CASE.student)


def measured(*batches, **options):
    metric = TeacherStudentKL(**options)
    for batch in batches:
        metric.update_state(*batch)
    return float(metric.result())


def close(value):
    return pytest.approx(value, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_is_the_mean_of_the_formula(name, temperature):
    case = CASES[name]
    given = (
        ops.cast(ops.convert_to_tensor(z, "float32"), case.dtype)
        for z in (case.teacher, case.student)
    )
    expected = oracles.kl(case.teacher / temperature, case.student / temperature)
    found = measured(tuple(given), temperature=temperature)
    assert found == close(expected.mean())


@pytest.mark.invariant(number=2)
def test_equal_models_have_none_and_a_shift_changes_nothing():
    assert measured((CASE.teacher, CASE.teacher)) == 0.0
    assert measured((CASE.teacher + 3.0, CASE.student - 2.0)) == close(VALUES.mean())


def test_the_teacher_comes_first():
    other = oracles.kl(CASE.student, CASE.teacher).mean()
    assert other != close(VALUES.mean())
    assert measured((CASE.student, CASE.teacher)) == close(other)


def test_probabilities_serve_as_well_as_logits():
    pair = oracles.softmax(CASE.teacher), oracles.softmax(CASE.student)
    assert measured(pair, from_logits=False) == close(VALUES.mean())


def test_a_single_output_is_a_choice_of_two():
    pair = CASE.teacher[:, :1], CASE.student[:, :1]
    expected = oracles.kl(*(np.hstack([0 * z, z]) for z in pair)).mean()
    assert measured(pair) == close(expected)
    pair = [1 / (1 + np.exp(-z)) for z in pair]
    assert measured(pair, from_logits=False) == close(expected)


def test_a_short_last_batch_counts_for_what_it_is():
    parts = (slice(0, 30), slice(30, 32))
    found = measured(*((CASE.teacher[p], CASE.student[p]) for p in parts))
    assert found == close(VALUES.mean())


@pytest.mark.invariant(number=3)
def test_weights_of_samples_are_honoured():
    weights = np.arange(32.0)
    expected = np.average(VALUES, weights=weights)
    assert measured((CASE.teacher, CASE.student, weights)) == close(expected)
    assert measured((CASE.teacher, CASE.student, 0 * weights)) == 0.0


@pytest.mark.invariant(number=3)
@pytest.mark.parametrize("weights", [None, np.array([1.0, 3.0])])
def test_masked_steps_count_nowhere(weights):
    kept = np.array([[1, 1, 0], [1, 0, 0]])
    model = keras.Sequential(
        [keras.layers.Embedding(5, 3, mask_zero=True), keras.layers.Dense(4)]
    )
    outputs = model(kept * [[2, 3, 4], [1, 2, 3]])
    large = CASE.teacher[:6].reshape(2, 3, 4)
    values = oracles.kl(large, np.array(ops.convert_to_numpy(outputs), "float64"))
    mass = kept if weights is None else kept * weights[:, None]
    found = measured((large, outputs, weights))
    assert found == close(np.average(values, weights=mass))


def test_it_may_be_compiled_where_the_labels_are_the_teachers_outputs():
    x, _ = data(40)
    small, said = student(), teacher(scale=1.0).predict(x, verbose=0)
    small.compile(loss="mse", metrics=[TeacherStudentKL(2.0)])
    logs = small.evaluate(x, said, batch_size=16, return_dict=True, verbose=0)
    expected = oracles.kl(said / 2.0, small.predict(x, verbose=0) / 2.0).mean()
    assert logs["teacher_student_kl"] == close(expected)


@pytest.mark.invariant(number=10)
@pytest.mark.parametrize("temperature", [0.0, -1, float("nan"), "warm"])
def test_a_wrong_temperature_is_refused(temperature):
    with pytest.raises(ValueError, match="`temperature` must be.*temperature="):
        TeacherStudentKL(temperature)


def test_serializes():
    made = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(TeacherStudentKL(2.0, False, name="kl"))
    )
    assert type(made) is TeacherStudentKL
    assert (made.temperature, made.from_logits, made.name) == (2.0, False, "kl")


def test_each_models_outputs_are_taken_for_what_they_look_like():
    z = draw((16, 5))
    p = oracles.softmax(z.teacher.astype("float64"))
    found = []
    for outputs in (z.teacher, p):
        metric = TeacherStudentKL()
        metric.update_state(outputs, z.student)
        found.append(float(metric.result()))
    assert found[0] == pytest.approx(found[1], rel=1e-4)
    with pytest.raises(ValueError, match="`from_logits` must be"):
        TeacherStudentKL(from_logits=None)
