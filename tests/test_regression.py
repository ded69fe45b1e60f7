"""Students compiled for a regression: their outputs are numbers and no logits."""

import warnings

import keras
import numpy as np
import pytest

import keras_dtkd
from keras_dtkd import Distiller
from keras_dtkd.losses import CKD, CSKD, DKD, KD, DistillationLoss, LogitMSE
from tests.tiny_models import close, data, numbers, one_hot, student, teacher

pytestmark = pytest.mark.invariant(number=10)

X, LABELS = data(32)
Y = X.sum(-1, keepdims=True)


def regressor(units=1, seed=1, loss="mse", compiled=True):
    model = student(classes=units, seed=seed)
    if compiled:
        model.compile(keras.optimizers.Adam(0.05), loss, metrics=["mae"])
    return model


def fit(d, y=Y, epochs=1):
    return d.fit(X, y, batch_size=16, epochs=epochs, shuffle=False, verbose=0).history


@pytest.mark.graph
@pytest.mark.parametrize("units", [1, 3])
@pytest.mark.parametrize("labels", [True, False])
def test_a_regressor_is_distilled_by_the_mean_squared_difference(units, labels):
    y = np.repeat(Y, units, -1) if labels else None
    large, small = regressor(units, 7), regressor(units)
    d = Distiller(large, small)
    with pytest.warns(UserWarning, match="compiled for a regression.*LogitMSE"):
        logs = fit(d, y, epochs=30)
    expected = {"loss", "logit_mse"} | ({"task_loss", "mae"} if labels else set())
    assert set(logs) == expected
    difference = large.predict(X, verbose=0) - small.predict(X, verbose=0)
    found = d.compute_losses(keras.ops.convert_to_tensor(X))["logit_mse"]
    assert float(found) == pytest.approx(np.mean(difference**2), rel=1e-4)
    if not labels:
        assert logs["logit_mse"][-1] < 0.1 * logs["logit_mse"][0]
    # The same as by the loss that the message names, without the message.
    again = Distiller(regressor(units, 7), regressor(units), LogitMSE())
    assert set(fit(again, y, epochs=30)) == set(logs)
    assert close(small, again.student, 1e-4)


@pytest.mark.parametrize(
    "loss",
    ["mse", "mae", "huber", keras.losses.LogCosh(), keras.losses.mean_squared_error],
)
def test_a_loss_on_classes_is_refused_for_a_regressor(loss):
    for distillation_loss in (KD(), DKD(), CKD(), CSKD()):
        d = Distiller(regressor(3, 7), regressor(3, loss=loss), distillation_loss)
        before = numbers(d.student)
        with pytest.raises(ValueError, match="compares classes.*LogitMSE.*from_logits"):
            fit(d, np.repeat(Y, 3, -1))
        assert close(before, d.student, 0)


def test_a_users_loss_is_left_alone():
    class Absolute(DistillationLoss):
        def call(self, student_logits, teacher_logits, labels=None):
            difference = keras.ops.abs(student_logits - teacher_logits)
            return keras.ops.mean(difference, axis=-1)

    fit(Distiller(regressor(1, 7), regressor(), Absolute()))


def test_classes_that_learn_by_a_squared_error_are_classes():
    d = Distiller(teacher(), regressor(4), KD())
    assert "agreement" in fit(d, one_hot(LABELS))
    d = Distiller(teacher(), regressor(4), KD(), from_logits=True)
    assert "agreement" in fit(d, np.repeat(Y, 4, -1))
    softmax = student(head="softmax")
    softmax.compile("adam", "mse")
    assert "agreement" in fit(Distiller(teacher(), softmax, KD()), one_hot(LABELS))


def test_a_classifier_teaches_no_regressor():
    with pytest.raises(ValueError, match="compiled for a regression, and the teacher"):
        fit(Distiller(teacher("softmax", 3), regressor(3)), np.repeat(Y, 3, -1))


def test_numbers_as_labels_of_a_student_that_is_not_compiled():
    with pytest.raises(ValueError, match="For a regression compile the student"):
        fit(Distiller(regressor(1, 7), regressor(compiled=False)), Y[:, 0])


@pytest.mark.parametrize("units", [1, 3])
@pytest.mark.parametrize("loss", [KD(), LogitMSE()])
def test_a_student_without_a_loss_is_no_classifier_beside_a_regressor(units, loss):
    """Labels in [0, 1] would fit a cross-entropy."""
    shares = np.repeat(1 / (1 + np.exp(-Y)), units, -1)
    d = Distiller(regressor(units, 7), regressor(units, compiled=False), loss)
    before = numbers(d.student)
    with pytest.raises(ValueError, match="compiled for a regression.*compile the stud"):
        fit(d, shares)
    assert close(before, d.student, 0)
    if isinstance(loss, KD):
        with pytest.raises(ValueError, match="would be trained as a classifier"):
            fit(d, None)
    else:
        assert "logit_mse" in fit(d, None)
    given = regressor(units, 7), regressor(units, compiled=False), KD()
    assert "agreement" in fit(Distiller(*given, from_logits=True), None)


def test_a_teacher_that_learned_classes_by_a_squared_error_teaches_classes():
    d = Distiller(regressor(4, 7), student(), KD())
    assert "agreement" in fit(d, LABELS)
    d = Distiller(regressor(4, 7), student(), KD())
    assert "agreement" in fit(d, one_hot(LABELS))
    d = Distiller(regressor(1, 7), regressor(compiled=False), KD())
    assert "agreement" in fit(d, (Y > 0).astype("float32"))


def test_a_regressor_is_saved_and_evaluated(tmp_path):
    d = Distiller(regressor(1, 7), regressor(), LogitMSE(), evaluate_distillation=True)
    fit(d)
    found = d.evaluate(X, Y, verbose=0, return_dict=True)
    assert set(found) == {"loss", "task_loss", "logit_mse", "mae"}
    d.save(tmp_path / "d.keras")
    loaded = keras.saving.load_model(tmp_path / "d.keras")
    loaded.teacher = d.teacher
    assert loaded.evaluate(X, Y, verbose=0, return_dict=True) == pytest.approx(found)
    fit(loaded)


def test_diagnose_says_that_it_measures_classes_alone():
    report = keras_dtkd.diagnose(regressor(1, 7), regressor(), (X, Y), verbose=0)
    assert "not_measured" in {issue.code for issue in report.issues}


def test_the_distillers_own_compiled_loss_decides():
    d = Distiller(teacher(), student(), KD())
    d.compile("sgd", "mse")
    with pytest.raises(ValueError, match="compares classes"):
        fit(d, np.repeat(Y, 4, -1))


def test_numbers_without_an_axis_are_taken_as_keras_takes_them():
    large, small = (
        keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]) for _ in "ab"
    )
    small.compile("sgd", "mse")
    d = Distiller(large, small, LogitMSE())
    assert d.fit(X[:, 0], X[:, 1], verbose=0).history["logit_mse"][0] > 0
    assert d.predict(X[:, 0], verbose=0).shape == (32, 1)


@pytest.mark.invariant(number=10)
def test_class_numbers_beside_a_regression_of_several_numbers_are_one_error():
    large, small = regressor(3), regressor(3, seed=2)
    labels = np.zeros(len(X), "int32")
    with pytest.raises(ValueError, match="outputs of 3 numbers.*For class numbers"):
        Distiller(large, small).fit(X, labels, verbose=0)


def test_a_teacher_that_is_no_better_than_the_labels_mean_warns():
    large = regressor(1, 7)
    large.fit(X, Y, epochs=200, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(Distiller(large, regressor(), LogitMSE()), Y)
    for other in (regressor(1, 7), large):
        with pytest.warns(UserWarning, match="mean squared error.*on labels of this"):
            fit(Distiller(other, regressor(), LogitMSE()), 100 * Y[:, 0])
