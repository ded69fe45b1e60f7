"""Losses on features where the models' outputs are several, or cannot be compared."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import Distiller, diagnose, losses
from tests.selection import JIT_COMPILE
from tests.tiny_models import FEATURES, close, same

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, FEATURES)).astype("float32")
Y = {"label": RNG.integers(0, 4, 8), "box": RNG.normal(size=(8, 3)).astype("float32")}
TASK = {"label": keras.losses.SparseCategoricalCrossentropy(True), "box": "mse"}
FORMS = ["dict", "list", "nested"]


def detector(width, seed, form="dict", classes=4):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((FEATURES,))
    hidden = keras.layers.Dense(width, activation="tanh", name="hidden")(inputs)
    label = keras.layers.Dense(classes, name="label")(hidden)
    box = keras.layers.Dense(3, name="box")(hidden)
    outputs = {
        "dict": {"label": label, "box": box},
        "list": [label, box],
        "nested": {"label": {"p3": label}, "box": {"p3": box}},
    }[form]
    return keras.Model(inputs, outputs)


def fit(distiller, y=None, epochs=1, start=0, **options):
    options = {"batch_size": 4, "shuffle": False, "verbose": 0, **options}
    options |= {"initial_epoch": start, "epochs": start + epochs}
    return distiller.fit(X, y, **options).history


def build(losses, form="dict", task=TASK, **options):
    d = Distiller(detector(6, 0, form), detector(4, 1, form), losses, **options)
    d.compile(keras.optimizers.SGD(0.1), task, jit_compile=JIT_COMPILE)
    return d


@pytest.mark.parametrize("form", FORMS)
def test_no_output_is_named(form):
    d = build(losses.FitNet("hidden"), form, None)
    logs = fit(d)
    features = [
        keras.Model(m.inputs, m.get_layer("hidden").output).predict(X, verbose=0)
        for m in (d.student, d.teacher)
    ]
    (projector,) = d.distillation_losses[0].projectors
    expected = np.mean(
        (ops.convert_to_numpy(projector(features[0])) - features[1]) ** 2
    )
    found = d.compute_losses(ops.convert_to_tensor(X))["fit_net"]
    assert float(found) == pytest.approx(expected, rel=1e-5)
    # Outputs that are not compared agree in nothing.
    assert set(logs) == {"loss", "fit_net"}


@pytest.mark.invariant(number=8)
def test_the_task_is_learned_too_and_goes_on_after_loading(tmp_path):
    d = build(losses.FitNet("hidden"))
    logs = fit(d, Y)
    assert logs["task_loss"][0] > 0 and "agreement" not in logs
    d.save(tmp_path / "d.keras")
    loaded = keras.saving.load_model(tmp_path / "d.keras")
    loaded.teacher = d.teacher
    for model in (d, loaded):
        fit(model, Y, start=1)
    assert same(d, loaded)


@pytest.mark.single_backend
@pytest.mark.parametrize("output", ["of the loss", "of the Distiller"])
def test_another_loss_on_one_output_changes_nothing(output):
    hints = losses.SimilarityPreserving("hidden")
    alone = build(hints).compute_losses(ops.convert_to_tensor(X))
    if output == "of the loss":
        d = build([hints, losses.KD(output="label")])
    else:
        d = build([hints, losses.KD()], output="label")
    both = d.compute_losses(ops.convert_to_tensor(X))
    name = "similarity_preserving"
    assert float(both[name]) == pytest.approx(float(alone[name]), rel=1e-6)
    assert set(fit(d, Y)) >= {"agreement", "kd", name}


@pytest.mark.single_backend
def test_a_loss_gets_all_labels_and_no_logits():
    seen = []

    class Record(losses.FeatureLoss):
        def compute(self, step):
            seen.append((step.y, step.student_logits))
            return super().compute(step)

        def compare(self, student, teacher, *args, **kwargs):
            return ops.mean(student, axis=-1)

    d = build([Record("hidden"), losses.KD(output="label")])
    d.compute_losses(ops.convert_to_tensor(X), Y)
    labels, logits = seen[-1]
    assert set(labels) == set(Y) and logits is None


@pytest.mark.invariant(number=3)
def test_a_sample_of_weight_two_is_that_sample_twice_and_of_zero_none():
    weights, rows = np.array([2.0, 1.0, 0.0, 1.0]), [0, 0, 1, 3]
    options = {"batch_size": 4, "shuffle": False, "verbose": 0}
    students = []
    for x, w in ((X[:4], weights), (X[rows], np.ones(4))):
        d = build(losses.RKD("hidden"), task=None)
        d.fit(x, sample_weight=w.astype("float32"), **options)
        students.append(d.student)
    assert close(*students)
    before = detector(4, 1)
    d.fit(X[:4], sample_weight=np.zeros(4, "float32"), **options)
    assert same(students[1], d.student) and not same(before, d.student)


@pytest.mark.invariant(number=3)
@pytest.mark.parametrize("form", FORMS)
def test_weights_beside_labels_of_several_outputs_count(form):
    y = Y if form == "dict" else list(Y.values())
    if form == "nested":
        y = {name: {"p3": labels} for name, labels in Y.items()}
    task = None if form == "nested" else TASK if form == "dict" else [*TASK.values()]
    d = build(losses.FitNet("hidden"), form, task)
    before = detector(4, 1, form)
    logs = fit(d, y, sample_weight=np.zeros(8, "float32"))
    assert logs["fit_net"] == [0.0] and same(before, d.student)


@pytest.mark.single_backend
def test_classes_may_differ_where_no_loss_compares_them():
    teacher, student = (
        keras.Model(m.inputs, m.output["label"])
        for m in (detector(6, 0, classes=9), detector(4, 1))
    )
    student.compile("sgd", TASK["label"], metrics=["accuracy"])
    d = Distiller(teacher, student, losses.FitNet("hidden"))
    logs = fit(d, Y["label"], validation_data=(X, Y["label"]))
    assert set(logs) >= {"fit_net", "task_loss", "accuracy", "val_accuracy"}
    assert "agreement" not in logs
    with pytest.raises(ValueError, match="the teacher gives 9 classes"):
        fit(Distiller(teacher, student, [losses.FitNet("hidden"), losses.KD()]))


@pytest.mark.single_backend
def test_evaluate_and_diagnose_need_no_output():
    d = build(losses.FitNet("hidden"), evaluate_distillation=True)
    logs = d.evaluate(X, Y, verbose=0, return_dict=True)
    assert logs["fit_net"] > 0 and "agreement" not in logs
    args = d.teacher, d.student, (X, None), losses.FitNet("hidden")
    assert not diagnose(*args, verbose=False).issues[0].severity == "error"


@pytest.mark.single_backend
def test_a_loss_on_logits_still_needs_an_output():
    with pytest.raises(ValueError, match="has several outputs"):
        fit(build([losses.KD(), losses.FitNet("hidden")], task=None))
