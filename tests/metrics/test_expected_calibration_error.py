"""The calibration error is Guo's, over all samples however they are batched."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import Distiller
from keras_dtkd.losses import KD
from keras_dtkd.metrics import ExpectedCalibrationError
from tests import oracles, oracles_metrics
from tests.logit_cases import CASES, draw
from tests.tiny_models import data, one_hot, student, teacher

LOGITS = draw((32, 4), teacher=1.5).teacher
Y = np.random.default_rng(1).integers(0, 4, 32)
# Half of them right, so that confidence means something.
Y[::2] = LOGITS[::2].argmax(-1)
EXPECTED = oracles_metrics.calibration_error(LOGITS, Y)


def measured(*batches, **options):
    metric = ExpectedCalibrationError(**options)
    for batch in batches:
        metric.update_state(*batch)
    return float(metric.result())


def tensor(z, dtype="float32"):
    return ops.cast(ops.convert_to_tensor(z, "float32"), dtype)


def test_is_the_formula():
    assert 0.02 < EXPECTED < 0.5
    assert measured((Y, tensor(LOGITS))) == pytest.approx(EXPECTED, abs=1e-6)


@pytest.mark.parametrize("bins", [1, 4, 100])
def test_any_number_of_bins_will_do(bins):
    expected = oracles_metrics.calibration_error(LOGITS, Y, bins)
    assert measured((Y, LOGITS), bins=bins) == pytest.approx(expected, abs=1e-6)


def test_one_bin_is_the_gap_between_mean_confidence_and_accuracy():
    gap = (LOGITS.argmax(-1) == Y).mean() - oracles.softmax(LOGITS).max(-1).mean()
    assert measured((Y, LOGITS), bins=1) == pytest.approx(abs(gap), abs=1e-6)


@pytest.mark.parametrize(
    "labels", [one_hot(Y), Y[:, None], Y.astype("float32")], ids=["1hot", "2d", "float"]
)
def test_labels_come_in_any_form(labels):
    assert measured((labels, LOGITS)) == pytest.approx(EXPECTED, abs=1e-6)


def test_probabilities_serve_as_well_as_logits():
    p = oracles.softmax(LOGITS)
    found = measured((Y, p), from_logits=False)
    assert found == pytest.approx(EXPECTED, abs=1e-5)


@pytest.mark.parametrize("from_logits", [True, False])
def test_a_single_output_is_a_choice_of_two(from_logits):
    z, y = LOGITS[:, :1], Y % 2
    expected = oracles_metrics.calibration_error(np.hstack([0 * z, z]), y)
    given = z if from_logits else 1 / (1 + np.exp(-z))
    for labels in (y, y[:, None]):
        found = measured((labels, given), from_logits=from_logits)
        assert found == pytest.approx(expected, abs=1e-5)


def test_batches_of_any_size_give_the_same():
    parts = slice(0, 30), slice(30, 32)
    found = measured(*((Y[part], LOGITS[part]) for part in parts))
    assert found == pytest.approx(EXPECTED, abs=1e-6)


@pytest.mark.invariant(number=3)
def test_a_weight_of_two_is_the_sample_twice_and_of_zero_none():
    weights = np.random.default_rng(2).integers(0, 3, 32)
    found = measured((Y, LOGITS, weights))
    twice = oracles_metrics.calibration_error(
        np.repeat(LOGITS, weights, 0), np.repeat(Y, weights)
    )
    assert found == pytest.approx(twice, abs=1e-6)
    assert measured((Y, LOGITS, 0 * weights)) == 0.0


@pytest.mark.invariant(number=3)
def test_masked_steps_and_samples_without_a_label_count_nowhere():
    kept = np.array([[1, 1, 0], [1, 0, 0]])
    model = keras.Sequential(
        [keras.layers.Embedding(5, 3, mask_zero=True), keras.layers.Dense(4)]
    )
    outputs = model(kept * [[2, 3, 4], [1, 2, 3]])
    y = np.array([[0, 1, 2], [3, 0, 1]])
    z = ops.convert_to_numpy(outputs)[kept > 0]
    expected = oracles_metrics.calibration_error(z, y[kept > 0])
    assert measured((y, outputs)) == pytest.approx(expected, abs=1e-6)
    unlabelled = np.where(kept > 0, y, -1)
    found = measured((unlabelled, ops.convert_to_numpy(outputs)))
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_upper_edge_belongs_to_its_bin():
    metric = ExpectedCalibrationError(bins=2)
    # Confidences ½ and 1.
    metric.update_state([0, 1], [[0.0, 0.0], [-1e4, 1e4]])
    assert ops.convert_to_numpy(metric.count).tolist() == [1.0, 1.0]


@pytest.mark.invariant(number=6)
@pytest.mark.parametrize("name", ["up to 1e4", "equal logits", "float16", "1 sample"])
def test_extreme_logits_are_measured_too(name):
    case = CASES[name]
    y = case.student.argmax(-1)
    found = measured((y, tensor(case.teacher, case.dtype)))
    expected = oracles_metrics.calibration_error(case.teacher, y)
    assert found == pytest.approx(expected, abs=1e-5)


def test_it_forgets_and_begins_at_zero():
    metric = ExpectedCalibrationError()
    assert float(metric.result()) == 0.0
    metric.update_state(Y, LOGITS)
    metric.reset_state()
    assert float(metric.result()) == 0.0


def test_it_measures_a_student_in_fit():
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


@pytest.mark.invariant(number=10)
@pytest.mark.parametrize("bins", [0, 2.5, "15"])
def test_a_wrong_number_of_bins_is_refused(bins):
    with pytest.raises(ValueError, match=f"`bins` must be.*bins={bins!r}"):
        ExpectedCalibrationError(bins)


def test_serializes():
    made = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(
            ExpectedCalibrationError(7, False, name="ece", dtype="float32")
        )
    )
    assert type(made) is ExpectedCalibrationError
    assert (made.bins, made.from_logits, made.name) == (7, False, "ece")


def test_probabilities_and_logits_give_the_same_unless_told_what_they_are():
    p = oracles.softmax(LOGITS)
    assert measured((Y, p)) == pytest.approx(EXPECTED, abs=1e-5)
    taken = oracles_metrics.calibration_error(p, Y)
    assert measured((Y, p), from_logits=True) == pytest.approx(taken, abs=1e-5)
    assert abs(taken - EXPECTED) > 0.02


def test_in_a_compiled_student_with_a_softmax_it_is_right():
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
        found = logs["expected_calibration_error"]
        assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.invariant(number=10)
def test_anything_else_for_from_logits_is_refused():
    with pytest.raises(ValueError, match="`from_logits` must be.*'maybe'"):
        ExpectedCalibrationError(from_logits="maybe")
