"""What `fit` and `evaluate` report, and under which names."""

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.losses import DTKD, KD, DistillationLoss
from tests.tiny_models import CLASSES, close, data, distiller, numbers, student, teacher

DISTILLATION = {"agreement", "dtkd", "student_temperature", "teacher_temperature"}


@pytest.mark.parametrize("evaluate_distillation", [False, True])
def test_names_in_fit_and_in_evaluate(evaluate_distillation):
    x, y = data(16)
    d = Distiller(teacher(), student(), evaluate_distillation=evaluate_distillation)
    logs = d.fit(x, y, validation_data=(x, y), verbose=0).history
    fit = {"loss", "task_loss", "accuracy"} | DISTILLATION
    evaluate = fit if evaluate_distillation else {"loss", "accuracy"}
    assert set(logs) == fit | {f"val_{name}" for name in evaluate}
    assert set(d.evaluate(x, y, verbose=0, return_dict=True)) == evaluate
    assert set(d.test_on_batch(x, y, return_dict=True)) == evaluate
    # Nothing is zero because nobody fed it.
    assert all(np.all(np.array(value) != 0) for value in logs.values())


def test_names_without_labels():
    x, y = data(16)
    loss = DTKD(rule="std")
    d = Distiller(teacher(), student(), loss, evaluate_distillation=True)
    logs = d.fit(x, validation_data=(x, y), verbose=0).history
    training = {name for name in logs if not name.startswith("val_")}
    assert training == {"loss"} | DISTILLATION
    assert {"val_task_loss", "val_accuracy", "val_loss"} <= set(logs)
    assert set(d.evaluate(x, verbose=0, return_dict=True)) == {"loss"} | DISTILLATION


def test_labelled_training_may_be_validated_without_labels():
    x, y = data(16)
    d = Distiller(teacher(), student(), KD(), evaluate_distillation=True)
    logs = d.fit(x, y, validation_data=(x,), verbose=0).history
    validation = {name for name in logs if name.startswith("val_")}
    assert validation == {"val_agreement", "val_kd", "val_loss"}
    assert "task_loss" in logs and "accuracy" in logs


def test_each_loss_has_its_name_and_its_temperatures():
    x, y = data(16)
    exact, std = DTKD(name="exact"), DTKD(rule="std", name="ours")
    # Those that are constant say nothing.
    d = Distiller(teacher(), student(), [KD(), KD(2.0), exact, std])
    logs = d.fit(x, y, verbose=0).history
    temperatures = {
        f"{prefix}{side}_temperature"
        for prefix in ("", "ours_")
        for side in ("student", "teacher")
    }
    names = {"loss", "task_loss", "accuracy", "agreement"}
    assert set(logs) == names | {"kd", "kd_2", "exact", "ours"} | temperatures
    both = logs["ours_student_temperature"][0] + logs["ours_teacher_temperature"][0]
    assert both == pytest.approx(8.0)
    assert logs["ours_student_temperature"][0] < logs["ours_teacher_temperature"][0]


def test_a_loss_without_temperature_logs_none():
    class Squared(DistillationLoss):
        def call(self, student_logits, teacher_logits, labels=None):
            return keras.ops.mean((student_logits - teacher_logits) ** 2, axis=-1)

    x, y = data(16)
    logs = distiller({"far": Squared()}).fit(x, y, verbose=0).history
    assert set(logs) == {"loss", "task_loss", "far", "agreement"}


@pytest.mark.invariant(number=2)
def test_a_student_that_is_the_teachers_copy_agrees_and_has_no_loss():
    # Invariant 2 at the level of the whole step.
    x, _ = data(16)
    small = teacher()
    small.layers[3].rate = 0.0
    small.layers[2].trainable = False
    before = numbers(small)
    logs = distiller(DTKD(), student=small).fit(x, verbose=0).history
    assert logs["agreement"] == [1.0]
    assert logs["loss"][0] == pytest.approx(0.0, abs=1e-5)
    assert close(before, small, 1e-5)


@pytest.mark.parametrize("evaluate_distillation", [False, True])
def test_evaluate_measures_the_student_as_it_would_itself(evaluate_distillation):
    x, y = data(20)
    small = student(norm=True, dropout=0.5)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    small.compile("adam", loss, metrics=["accuracy"])
    d = Distiller(teacher(), small, KD(), evaluate_distillation=evaluate_distillation)
    d.fit(x, y, batch_size=8, verbose=0)
    weights = np.linspace(0, 2, 20).astype("float32")
    options = {"sample_weight": weights, "batch_size": 8, "verbose": 0}
    ours = d.evaluate(x, y, return_dict=True, **options)
    alone = small.evaluate(x, y, return_dict=True, **options)
    assert ours["accuracy"] == pytest.approx(alone["accuracy"])
    task = "task_loss" if evaluate_distillation else "loss"
    assert ours[task] == pytest.approx(alone["loss"], rel=1e-5)
    if evaluate_distillation:
        assert ours["loss"] == pytest.approx(ours["task_loss"] + ours["kd"], rel=1e-5)


def test_agreement_is_the_share_of_equal_first_choices():
    x, y = data(32)
    large, small = teacher(), student()
    d = Distiller(large, small, KD(), evaluate_distillation=True)
    found = d.evaluate(x, y, verbose=0, return_dict=True)["agreement"]
    first = [m.predict(x, verbose=0).argmax(-1) for m in (large, small)]
    assert found == pytest.approx(np.mean(first[0] == first[1]))
    assert 0 < found < 1


def test_validation_split_is_kept_out_of_training():
    x, y = data(20)
    y = np.where(np.arange(20) < 15, y, (y + 1) % CLASSES)
    small, other = student(), student()
    d = distiller(student=small)
    logs = d.fit(
        x, y, validation_split=0.25, batch_size=8, shuffle=False, verbose=0
    ).history
    assert set(logs) >= {"val_loss", "loss"}
    distiller(student=other).fit(x[:15], y[:15], batch_size=8, shuffle=False, verbose=0)
    assert close(small, other)


def test_metrics_start_anew_in_each_epoch_and_run():
    x, y = data(16)
    d = distiller(KD(), keras.optimizers.SGD(0.0))
    logs = d.fit(x, y, epochs=2, verbose=0).history
    again = d.fit(x, y, verbose=0).history
    for name, (first, second) in logs.items():
        assert first == pytest.approx(second), name
        assert first == pytest.approx(again[name][0]), name
