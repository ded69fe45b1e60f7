"""What is said of DTKD's published rule, to whom."""

import numpy as np
import pytest

from keras_dtkd.diagnostics.dynamic import figures, findings
from keras_dtkd.diagnostics.evaluate_batches import Rows
from keras_dtkd.losses import DTKD, KD
from keras_dtkd.temperatures import Dynamic
from tests import oracles

EXACT = {"dtkd": DTKD()}
PUBLISHED = {"dtkd": DTKD.published()}
STOPPED = {"kd": KD(Dynamic(rule="max", stop_gradient="weight"))}


def rows(student=1.0, teacher=5.0, shift=0.0):
    rng = np.random.default_rng(0)
    s, t = (oracles.centered(rng.normal(size=(256, 10))) for _ in range(2))
    s, t = student * s + shift, teacher * t
    return Rows(s.astype("float32"), t.astype("float32"), None)


def told(rows, losses):
    return {f.name: f.severity for f in findings(figures(rows, losses), losses)}


@pytest.mark.parametrize("losses", [EXACT, PUBLISHED, STOPPED])
def test_of_sound_logits_nothing_is_said(losses):
    assert told(rows(), losses) == {}


@pytest.mark.parametrize(
    "losses, expected",
    [
        (EXACT, {}),
        (PUBLISHED, {"dtkd_invalid": "warning"}),
        (STOPPED, {"dtkd_invalid": "warning"}),
    ],
)
def test_where_it_is_undefined_only_its_user_is_told(losses, expected):
    found = rows(shift=-10.0)
    assert figures(found, losses)["invalid_share"] == 1.0
    assert told(found, losses) == expected


@pytest.mark.parametrize(
    "losses, expected",
    [(EXACT, {}), (PUBLISHED, {"dtkd_degenerate": "warning"}), (STOPPED, {})],
)
def test_near_the_minimum_only_who_may_fall_into_it_is_told(losses, expected):
    found = rows(student=0.001)
    own = figures(found, losses)
    assert own["student_temperature_mean"] < own["floor"]
    assert told(found, losses) == expected


def test_the_temperatures_are_the_published_ones():
    found = rows()
    x, y = found.teacher.max(-1), found.student.max(-1)
    expected = 8 * y / (x + y)
    own = figures(found, EXACT)
    np.testing.assert_allclose(
        own["student_temperature_mean"], expected.mean(), rtol=1e-5
    )
    np.testing.assert_allclose(
        own["student_temperature_min"], expected.min(), rtol=1e-5
    )
    assert own["floor"] == pytest.approx(0.15)
