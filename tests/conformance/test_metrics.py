"""What every metric promises."""

import inspect
import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd.core.masking import attach_mask
from tests.logit_cases import draw, rounded
from tests.oracles import softmax
from tests.registry import METRICS
from tests.tensors import tensor

CASE = draw((32, 4))
LABELS = np.random.default_rng(1).integers(0, 4, 32)
LABELS[::2] = CASE.student[::2].argmax(-1)
EACH = pytest.mark.parametrize("name", METRICS)


def results(metric):
    values = metric.result()
    values = values if isinstance(values, dict) else {metric.name: values}
    return {name: float(ops.convert_to_numpy(v)) for name, v in values.items()}


def measure(name, *batches, dtype="float32"):
    """From batches of teacher's and student's logits, labels and perhaps weights."""
    metric = METRICS[name].build(name="metric")
    for teacher, student, labels, *weights in batches:
        sides = tensor(teacher, dtype), tensor(student, dtype)
        metric.update_state(*METRICS[name].arguments(labels, *sides), *weights)
    return results(metric)


def rows(chosen, *weights):
    return CASE.teacher[chosen], CASE.student[chosen], LABELS[chosen], *weights


ALL = slice(None)


def close(expected):
    return pytest.approx(expected, rel=1e-5, abs=1e-6)


@EACH
def test_the_batch_size_changes_nothing(name):
    batches = measure(name, rows(slice(0, 30)), rows(slice(30, 32)))
    assert batches == close(measure(name, rows(ALL)))


@pytest.mark.invariant(number=3)
@EACH
def test_a_sample_of_weight_two_equals_that_sample_twice(name):
    weights = np.arange(32) % 3
    weighted = measure(name, rows(ALL, weights.astype("float32")))
    assert weighted == close(measure(name, rows(np.repeat(np.arange(32), weights))))
    assert weighted != close(measure(name, rows(ALL)))
    assert set(measure(name, rows(ALL, np.zeros(32))).values()) == {0.0}


@pytest.mark.invariant(number=3)
@pytest.mark.parametrize("weights", [None, np.array([1.0, 3.0])])
@EACH
def test_masked_steps_are_ignored(name, weights):
    mask = np.array([[1, 1, 0], [1, 0, 0]], bool)
    teacher, student, labels = rows(slice(0, 6))
    teacher, student = teacher.reshape(2, 3, 4), student.reshape(2, 3, 4)
    labels = labels.reshape(2, 3)
    metric = METRICS[name].build(name="metric")
    given = tensor(teacher), attach_mask(tensor(student), tensor(mask, "bool"))
    metric.update_state(*METRICS[name].arguments(labels, *given), weights)
    kept = [[1.0, 1.0, 1.0] if weights is None else [1.0, 1.0, 3.0]]
    kept = (teacher[mask], student[mask], labels[mask], *np.array(kept))
    assert results(metric) == close(measure(name, kept))


@pytest.mark.invariant(number=3)
@pytest.mark.parametrize("probabilities", [False, True])
@EACH
def test_nan_in_rows_of_weight_zero_is_ignored(name, probabilities):
    weights = (np.arange(32) % 3 > 0).astype("float32")
    sides = [CASE.teacher, CASE.student]
    if probabilities:
        sides = [softmax(side) for side in sides]
    with_nan = [np.where(weights[:, None] > 0, side, np.nan) for side in sides]
    expected = measure(name, (*(s[weights > 0] for s in sides), LABELS[weights > 0]))
    assert measure(name, (*with_nan, LABELS, weights)) == close(expected)


@pytest.mark.parametrize(
    "name", ["expected_calibration_error", "target_non_target_split"]
)
def test_samples_without_a_label_are_ignored(name):
    labels = np.where(np.arange(32) % 3, LABELS, -1)
    keep = labels[:, None] >= 0
    sides = (np.where(keep, side, np.nan) for side in (CASE.teacher, CASE.student))
    found = measure(name, (*sides, labels))
    assert found == close(measure(name, rows(labels >= 0)))


@EACH
def test_half_precision_outputs_give_float32_results(name):
    half = [rounded(z, "float16") for z in (CASE.teacher, CASE.student)]
    found = measure(name, (*half, LABELS), dtype="float16")
    assert found == close(measure(name, (*half, LABELS)))


@EACH
def test_the_result_is_zero_at_first_and_after_a_reset(name):
    metric = METRICS[name].build(name="metric")
    assert set(results(metric).values()) == {0.0}
    sides = tensor(9 * CASE.teacher), tensor(CASE.student)
    metric.update_state(*METRICS[name].arguments(LABELS, *sides))
    assert any(results(metric).values())
    metric.reset_state()
    assert set(results(metric).values()) == {0.0}
    sides = tensor(CASE.teacher), tensor(CASE.student)
    metric.update_state(*METRICS[name].arguments(LABELS, *sides))
    assert results(metric) == close(measure(name, rows(ALL)))


@EACH
def test_a_configuration_gives_the_same_metric(name):
    metric = METRICS[name].build(name="other")
    config = metric.get_config()
    arguments = inspect.signature(type(metric).__init__).parameters
    assert arguments.keys() - {"self", "kwargs"} <= config.keys()
    for number in ("temperature", "bins"):
        if isinstance(config.get(number), int | float):
            config[number] *= 2
    metric = type(metric).from_config(config)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(metric)))
    restored = keras.saving.deserialize_keras_object(config)
    assert type(restored) is type(metric) and restored.name == "other"
    assert restored.get_config() == metric.get_config()
    sides = METRICS[name].arguments(LABELS, tensor(CASE.teacher), tensor(CASE.student))
    for one in (metric, restored):
        one.update_state(*sides)
    assert results(restored) == results(metric)


@pytest.mark.invariant(number=10)
@EACH
def test_wrong_arguments_are_refused_with_their_value(name):
    for argument, values in METRICS[name].wrong.items():
        for value in values:
            with pytest.raises(ValueError, match=f"`{argument}`") as error:
                METRICS[name].build(**{argument: value})
            assert f"{argument}={value!r}" in str(error.value)
