"""The calibration error is that of Guo et al., for any batch size."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import Distiller
from keras_dtkd.losses import KD
from keras_dtkd.metrics import ExpectedCalibrationError
from tests import oracles, oracles_metrics
from tests.logit_cases import CASES, draw
from tests.tensors import tensor
from tests.tiny_models import data, one_hot, student, teacher

LOGITS = draw((32, 4), teacher=1.5).teacher
Y = np.random.default_rng(1).integers(0, 4, 32)
# Half of them are correct, so that confidence is informative.
Y[::2] = LOGITS[::2].argmax(-1)
EXPECTED = oracles_metrics.calibration_error(LOGITS, Y)


def measure(*batches, **options):
    metric = ExpectedCalibrationError(**options)
    for batch in batches:
        metric.update_state(*batch)
    return float(metric.result())


def test_equals_the_formula():
    assert 0.02 < EXPECTED < 0.5
    assert measure((Y, tensor(LOGITS))) == pytest.approx(EXPECTED, abs=1e-6)


@pytest.mark.parametrize("bins", [1, 4, 100])
def test_any_number_of_bins(bins):
    expected = oracles_metrics.calibration_error(LOGITS, Y, bins)
    assert measure((Y, LOGITS), bins=bins) == pytest.approx(expected, abs=1e-6)


def test_one_bin_is_the_difference_of_mean_confidence_and_accuracy():
    gap = (LOGITS.argmax(-1) == Y).mean() - oracles.softmax(LOGITS).max(-1).mean()
    assert measure((Y, LOGITS), bins=1) == pytest.approx(abs(gap), abs=1e-6)


@pytest.mark.parametrize(
    "labels", [one_hot(Y), Y[:, None], Y.astype("float32")], ids=["1hot", "2d", "float"]
)
def test_labels_may_have_any_form(labels):
    assert measure((labels, LOGITS)) == pytest.approx(EXPECTED, abs=1e-6)


def test_probabilities_are_accepted():
    p = oracles.softmax(LOGITS)
    result = measure((Y, p), from_logits=False)
    assert result == pytest.approx(EXPECTED, abs=1e-5)


@pytest.mark.parametrize("from_logits", [True, False])
def test_a_single_output_is_binary_classification(from_logits):
    z, y = LOGITS[:, :1], Y % 2
    expected = oracles_metrics.calibration_error(np.hstack([0 * z, z]), y)
    given = z if from_logits else 1 / (1 + np.exp(-z))
    for labels in (y, y[:, None]):
        result = measure((labels, given), from_logits=from_logits)
        assert result == pytest.approx(expected, abs=1e-5)


def test_a_bin_includes_its_upper_edge():
    metric = ExpectedCalibrationError(bins=2)
    # Confidences ½ and 1.
    metric.update_state([0, 1], [[0.0, 0.0], [-1e4, 1e4]])
    assert ops.convert_to_numpy(metric.count).tolist() == [1.0, 1.0]


@pytest.mark.invariant(number=6)
@pytest.mark.parametrize("name", ["up to 1e4", "equal logits", "float16", "1 sample"])
def test_extreme_logits(name):
    case = CASES[name]
    y = case.student.argmax(-1)
    result = measure((y, tensor(case.teacher, case.dtype)))
    expected = oracles_metrics.calibration_error(case.teacher, y)
    assert result == pytest.approx(expected, abs=1e-5)


def test_it_measures_the_student_in_fit():
    x, y = data(40)
    small = student()
    small.compile(
        keras.optimizers.SGD(0.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[ExpectedCalibrationError(bins=7)],
    )
    expected = oracles_metrics.calibration_error(small.predict(x, verbose=0), y, 7)
    d = Distiller(teacher(), small, KD())
    logs = d.fit(x, y, batch_size=16, verbose=0).history
    assert logs["expected_calibration_error"][0] == pytest.approx(expected, abs=1e-5)


def test_auto_infers_probabilities_unless_from_logits_is_set():
    p = oracles.softmax(LOGITS)
    assert measure((Y, p)) == pytest.approx(EXPECTED, abs=1e-5)
    misread = oracles_metrics.calibration_error(p, Y)
    assert measure((Y, p), from_logits=True) == pytest.approx(misread, abs=1e-5)
    assert abs(misread - EXPECTED) > 0.02


def test_a_compiled_student_with_a_softmax_is_measured_correctly():
    x, y = data(32)
    small = student("softmax")
    expected = oracles_metrics.calibration_error(
        np.log(ops.convert_to_numpy(small(x)).astype("float64")), y
    )
    small.compile(
        "sgd", "sparse_categorical_crossentropy", metrics=[ExpectedCalibrationError()]
    )
    for model in (small, Distiller(teacher(), small, KD())):
        logs = model.evaluate(x, y, verbose=0, return_dict=True)
        result = logs["expected_calibration_error"]
        assert result == pytest.approx(expected, abs=1e-5)
