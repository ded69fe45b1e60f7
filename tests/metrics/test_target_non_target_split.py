"""The split at the label is DKD's, and its parts add up to the whole."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd.metrics import TargetNonTargetSplit, TeacherStudentKL
from tests import oracles_metrics
from tests.logit_cases import CASES, draw
from tests.tiny_models import one_hot

CASE = draw((32, 4))
Y = np.random.default_rng(3).integers(0, 4, 32)
PARTS = "target", "non_target", "weighted_non_target", "total"


def measured(*batches, **options):
    metric = TargetNonTargetSplit(**options)
    for batch in batches:
        metric.update_state(*batch)
    result = metric.result()
    assert tuple(result) == PARTS
    return {name: float(value) for name, value in result.items()}


def expected(case=CASE, y=Y, weights=None, temperature=1.0):
    parts = oracles_metrics.split(case.teacher, case.student, y, temperature)
    return close({k: np.average(v, weights=weights) for k, v in parts.items()})


def close(parts):
    return pytest.approx(parts, rel=2e-5, abs=1e-5)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_is_the_mean_of_the_formulas(name, temperature):
    case = CASES[name]
    y = np.random.default_rng(4).integers(0, case.student.shape[-1], case.student.shape)
    y = y[..., 0]
    pair = tuple(
        ops.cast(ops.convert_to_tensor(z, "float32"), case.dtype)
        for z in (case.teacher, case.student)
    )
    found = measured((y, pair), temperature=temperature)
    assert found == expected(case, y, temperature=temperature)


@pytest.mark.parametrize("name", ["100 classes", "up to 1e4", "2 classes"])
def test_target_and_weighted_non_target_add_up_to_the_divergence(name):
    case = CASES[name]
    y = case.student.argmax(-1)
    found = measured((y, case[1::-1]), temperature=2.0)
    whole = found["target"] + found["weighted_non_target"]
    divergence = TeacherStudentKL(2.0)
    divergence.update_state(case.teacher, case.student)
    assert whole == pytest.approx(found["total"], rel=1e-5)
    assert whole == pytest.approx(float(divergence.result()), rel=1e-5)


def test_of_two_classes_the_other_one_has_nothing_to_share():
    case = CASES["2 classes"]
    found = measured((case.teacher.argmax(-1), case[1::-1]))
    assert found["non_target"] == found["weighted_non_target"] == 0.0
    assert found["target"] == pytest.approx(found["total"], rel=1e-5)


@pytest.mark.invariant(number=2)
def test_equal_models_have_none_and_a_shift_changes_nothing():
    nothing = measured((Y, (CASE.teacher, CASE.teacher)))
    assert nothing == pytest.approx(dict.fromkeys(PARTS, 0.0), abs=1e-7)
    assert measured((Y, (CASE.teacher + 3.0, CASE.student - 2.0))) == expected()


@pytest.mark.parametrize("labels", [one_hot(Y), Y[:, None]], ids=["1hot", "2d"])
def test_labels_come_in_any_form(labels):
    assert measured((labels, (CASE.teacher, CASE.student))) == expected()


def test_a_short_last_batch_counts_for_what_it_is():
    parts = (slice(0, 30), slice(30, 32))
    batches = ((Y[p], (CASE.teacher[p], CASE.student[p])) for p in parts)
    assert measured(*batches) == expected()


@pytest.mark.invariant(number=3)
def test_weights_of_samples_are_honoured():
    weights = np.arange(32.0)
    pair = CASE.teacher, CASE.student
    assert measured((Y, pair, weights)) == expected(weights=weights)
    assert measured((Y, pair, 0 * weights)) == dict.fromkeys(PARTS, 0.0)


@pytest.mark.invariant(number=3)
def test_masked_steps_and_samples_without_a_label_count_nowhere():
    kept = np.array([[1, 1, 0], [1, 0, 0]])
    model = keras.Sequential(
        [keras.layers.Embedding(5, 3, mask_zero=True), keras.layers.Dense(4)]
    )
    outputs = model(kept * [[2, 3, 4], [1, 2, 3]])
    large, y = CASE.teacher[:6].reshape(2, 3, 4), Y[:6].reshape(2, 3)
    plain = np.array(ops.convert_to_numpy(outputs), "float64")
    parts = oracles_metrics.split(large, plain, y)
    wanted = close({k: np.average(v, weights=kept) for k, v in parts.items()})
    assert measured((y, (large, outputs))) == wanted
    assert measured((np.where(kept > 0, y, -1), (large, plain))) == wanted


def test_it_forgets_and_begins_at_zero():
    metric = TargetNonTargetSplit()
    metric.update_state(Y, (CASE.teacher, CASE.student))
    metric.reset_state()
    assert {float(v) for v in metric.result().values()} == {0.0}


@pytest.mark.invariant(number=10)
@pytest.mark.parametrize("temperature", [0.0, -1, "warm"])
def test_a_wrong_temperature_is_refused(temperature):
    with pytest.raises(ValueError, match="`temperature` must be.*temperature="):
        TargetNonTargetSplit(temperature)


def test_serializes():
    made = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(TargetNonTargetSplit(2.0, name="split"))
    )
    assert type(made) is TargetNonTargetSplit
    assert (made.temperature, made.name) == (2.0, "split")
