"""Mean, standard deviation and range of temperatures, over all samples."""

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
OPTIONS = {"tau": 4.0, "rule": "std", "min_temperature": 0.1}


def dynamic():
    return Dynamic(4.0, rule="std", min_temperature=0.1)


def measure(temperature, *batches):
    metric = TemperatureStatistics(temperature)
    for batch in batches:
        metric.update_state(*batch)
    return {name: float(value) for name, value in metric.result().items()}


def expected(student, teacher, weights=None):
    result = {}
    sides = oracles.temperatures(student, teacher, **OPTIONS)
    for name, t in zip(("student", "teacher"), sides, strict=True):
        t = t[..., 0]
        w = np.ones(t.shape) if weights is None else weights
        mean = np.average(t, weights=w)
        result[f"{name}_temperature_mean"] = mean
        std = np.sqrt(np.average((t - mean) ** 2, weights=w))
        result[f"{name}_temperature_std"] = std
        result[f"{name}_temperature_min"] = t[w > 0].min()
        result[f"{name}_temperature_max"] = t[w > 0].max()
    return pytest.approx(result, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("name", ["100 classes", "1 sample", "sequences", "float16"])
def test_equals_the_formula(name):
    case = CASES[name]
    pair = (
        ops.cast(ops.convert_to_tensor(z, "float32"), case.dtype)
        for z in (case.teacher, case.student)
    )
    assert measure(dynamic(), tuple(pair)) == expected(case.student, case.teacher)


def test_a_constant_temperature_has_no_deviation():
    batch = CASE.teacher, CASE.student
    for given in (2.5, Constant(2.5), KD(2.5).temperature):
        result = measure(given, batch, batch)
        for side in ("student", "teacher"):
            values = [result[f"{side}_temperature_{k}"] for k in ("mean", "min", "max")]
            assert values == [2.5] * 3 and result[f"{side}_temperature_std"] == 0.0


def test_a_small_deviation_from_a_large_mean_is_accurate():
    class NearlyConstant(Temperature):
        """100, plus a thousandth of the first logit."""

        def call(self, student_logits, teacher_logits):
            t = 100.0 + 1e-3 * student_logits[..., :1]
            return TemperaturePair(t, t, 1.0)

    batches = [(z, z) for z in (CASE.student, CASE.teacher)]
    result = measure(NearlyConstant(), *batches)["student_temperature_std"]
    first = np.concatenate([CASE.student[:, 0], CASE.teacher[:, 0]])
    assert result == pytest.approx(1e-3 * first.std(), rel=1e-2)


@pytest.mark.invariant(number=3)
def test_a_batch_coupled_temperature_receives_the_sample_weights():
    class Mean(Temperature):
        """The weighted mean of the student's first logits, and 3 for the teacher."""

        def call(self, student_logits, teacher_logits, sample_weight=None):
            mean = ops.sum(sample_weight * student_logits[..., 0])
            return TemperaturePair(mean / ops.sum(sample_weight), 3.0, 1.0)

    weights = np.arange(32.0)
    result = measure(Mean(), (CASE.teacher, CASE.student, weights))
    mean = np.average(CASE.student[:, 0], weights=weights)
    assert result["student_temperature_max"] == pytest.approx(mean, rel=1e-5)
    assert result["teacher_temperature_min"] == 3.0


def test_it_can_be_compiled_if_the_labels_are_teacher_outputs():
    x, _ = data(40)
    small, teacher_outputs = student(), teacher().predict(x, verbose=0)
    small.compile(loss="mse", metrics=[TemperatureStatistics(dynamic())])
    logs = small.evaluate(
        x, teacher_outputs, batch_size=16, return_dict=True, verbose=0
    )
    logs = {name: value for name, value in logs.items() if "temperature" in name}
    assert logs == expected(small.predict(x, verbose=0), teacher_outputs)
