"""Mean, deviation and range of temperatures, over all samples seen."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd.losses import KD
from keras_dtkd.metrics import TemperatureStatistics
from keras_dtkd.temperatures import Constant, Dynamic, Temperature, TemperaturePair
from tests import oracles
from tests.logit_cases import CASES, draw
from tests.tiny_models import data, student, teacher

CASE = draw((32, 4))
RULE = {"tau": 4.0, "rule": "std", "min_temperature": 0.1}


def rule():
    return Dynamic(4.0, rule="std", min_temperature=0.1)


def measured(given, *batches):
    metric = TemperatureStatistics(given)
    for batch in batches:
        metric.update_state(*batch)
    return {name: float(value) for name, value in metric.result().items()}


def expected(student, teacher, weights=None):
    found = {}
    sides = oracles.temperatures(student, teacher, **RULE)
    for name, t in zip(("student", "teacher"), sides, strict=True):
        t = t[..., 0]
        mass = np.ones(t.shape) if weights is None else weights
        mean = np.average(t, weights=mass)
        found[f"{name}_temperature_mean"] = mean
        deviation = np.sqrt(np.average((t - mean) ** 2, weights=mass))
        found[f"{name}_temperature_std"] = deviation
        found[f"{name}_temperature_min"] = t[mass > 0].min()
        found[f"{name}_temperature_max"] = t[mass > 0].max()
    return pytest.approx(found, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("name", ["100 classes", "1 sample", "sequences", "float16"])
def test_is_what_the_rule_gives(name):
    case = CASES[name]
    pair = (
        ops.cast(ops.convert_to_tensor(z, "float32"), case.dtype)
        for z in (case.teacher, case.student)
    )
    assert measured(rule(), tuple(pair)) == expected(case.student, case.teacher)


def test_batches_of_any_size_give_the_same():
    parts = (slice(0, 30), slice(30, 32))
    batches = [(CASE.teacher[p], CASE.student[p]) for p in parts]
    assert measured(rule(), *batches) == expected(CASE.student, CASE.teacher)


def test_a_number_is_one_temperature_without_deviation():
    batch = CASE.teacher, CASE.student
    for given in (2.5, Constant(2.5), KD(2.5).temperature):
        found = measured(given, batch, batch)
        for side in ("student", "teacher"):
            got = [found[f"{side}_temperature_{k}"] for k in ("mean", "min", "max")]
            assert got == [2.5] * 3 and found[f"{side}_temperature_std"] == 0.0


def test_a_deviation_far_below_the_mean_keeps_its_digits():
    class Nearly(Temperature):
        """100, and a thousandth of the first logit."""

        def call(self, student_logits, teacher_logits):
            t = 100.0 + 1e-3 * student_logits[..., :1]
            return TemperaturePair(t, t, 1.0)

    batches = [(z, z) for z in (CASE.student, CASE.teacher)]
    found = measured(Nearly(), *batches)["student_temperature_std"]
    first = np.concatenate([CASE.student[:, 0], CASE.teacher[:, 0]])
    assert found == pytest.approx(1e-3 * first.std(), rel=1e-2)


@pytest.mark.invariant(number=3)
def test_weights_of_samples_are_honoured():
    weights = np.arange(32.0) % 3
    found = measured(rule(), (CASE.teacher, CASE.student, weights))
    assert found == expected(CASE.student, CASE.teacher, weights)
    found = measured(rule(), (CASE.teacher, CASE.student, 0 * weights))
    assert set(found.values()) == {0.0}


@pytest.mark.invariant(number=3)
def test_a_rule_that_couples_rows_is_told_their_weights():
    class Mean(Temperature):
        """The weighted mean of the student's first logits, beside 3."""

        def call(self, student_logits, teacher_logits, sample_weight=None):
            mean = ops.sum(sample_weight * student_logits[..., 0])
            return TemperaturePair(mean / ops.sum(sample_weight), 3.0, 1.0)

    weights = np.arange(32.0)
    found = measured(Mean(), (CASE.teacher, CASE.student, weights))
    mean = np.average(CASE.student[:, 0], weights=weights)
    assert found["student_temperature_max"] == pytest.approx(mean, rel=1e-5)
    assert found["teacher_temperature_min"] == 3.0


@pytest.mark.invariant(number=3)
def test_masked_steps_count_nowhere():
    kept = np.array([[1, 1, 0], [1, 0, 0]])
    model = keras.Sequential(
        [keras.layers.Embedding(5, 3, mask_zero=True), keras.layers.Dense(4)]
    )
    outputs = model(kept * [[2, 3, 4], [1, 2, 3]])
    large = CASE.teacher[:6].reshape(2, 3, 4)
    plain = np.array(ops.convert_to_numpy(outputs), "float64")
    assert measured(rule(), (large, outputs)) == expected(plain, large, kept)


def test_it_forgets_and_begins_at_zero():
    metric = TemperatureStatistics(rule())
    assert {float(v) for v in metric.result().values()} == {0.0}
    metric.update_state(CASE.teacher * 9, CASE.student)
    metric.reset_state()
    assert {float(v) for v in metric.result().values()} == {0.0}
    metric.update_state(CASE.teacher, CASE.student)
    found = {name: float(value) for name, value in metric.result().items()}
    assert found == expected(CASE.student, CASE.teacher)


def test_it_may_be_compiled_where_the_labels_are_the_teachers_outputs():
    x, _ = data(40)
    small, said = student(), teacher().predict(x, verbose=0)
    small.compile(loss="mse", metrics=[TemperatureStatistics(rule())])
    logs = small.evaluate(x, said, batch_size=16, return_dict=True, verbose=0)
    logs = {name: value for name, value in logs.items() if "temperature" in name}
    assert logs == expected(small.predict(x, verbose=0), said)


def test_it_leaves_nothing_behind_in_the_rule():
    loss = KD(3.0)
    measured(loss.temperature, (CASE.teacher, CASE.student))
    assert loss.temperature.take_latest() is None


@pytest.mark.invariant(number=10)
def test_a_wrong_rule_is_refused():
    with pytest.raises(ValueError, match="`temperature` must be.*'warm'"):
        TemperatureStatistics("warm")


def test_serializes():
    made = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(TemperatureStatistics(rule(), name="t"))
    )
    assert type(made) is TemperatureStatistics
    assert isinstance(made.rule, Dynamic) and made.rule.get_config()["rule"] == "std"
    assert made.name == "t"
