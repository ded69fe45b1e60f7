"""The size of logits, and what is said of it."""

import numpy as np
import pytest

from keras_dtkd import diagnose
from keras_dtkd.diagnostics.logit_ranges import figures
from keras_dtkd.losses import DTKD
from tests import tiny_models


def test_masked_classes_count_nowhere():
    found = figures(np.array([[1.0, 3.0, -1e9], [2.0, 4.0, -np.inf]]))
    assert found == {"min": 1.0, "max": 4.0, "mean": 2.5, "std": 1.0, "shift": 2.5}


def told(teacher, loss):
    report = diagnose(
        teacher, tiny_models.student(), tiny_models.data(), loss, verbose=0
    )
    return {f.name: f.severity for f in report.findings}


@pytest.mark.parametrize(
    "dtype, severity", [("float32", "note"), ("float16", "warning")]
)
def test_logits_near_the_end_of_float16(dtype, severity):
    teacher = tiny_models.teacher(dtype=dtype, scale=6000.0)
    assert told(teacher, DTKD())["logit_overflow"] == severity


@pytest.mark.parametrize(
    "loss, severity", [(DTKD(), "note"), (DTKD.published(), "warning")]
)
def test_a_common_shift_matters_to_the_published_rule_alone(loss, severity):
    teacher = tiny_models.teacher()
    teacher.layers[-1].bias.assign(np.full(4, 50.0))
    assert told(teacher, loss)["uncentred_logits"] == severity
