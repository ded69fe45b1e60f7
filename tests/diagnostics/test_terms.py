"""Values and gradients of each loss, and what is wrong with them."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import diagnose
from keras_dtkd.functional.statistics import agreement
from keras_dtkd.losses import KD, DistillationLoss
from tests import oracles, tiny_models

X, Y = tiny_models.data()


class Agreeing(DistillationLoss):
    """Counts where the models differ: a number without slope."""

    def call(self, student_logits, teacher_logits, labels=None):
        return 1.0 - agreement(student_logits, teacher_logits)


class Careless(DistillationLoss):
    def call(self, student_logits, teacher_logits, labels=None):
        gap = ops.sum(student_logits, axis=-1) * 0.0
        return ops.sqrt(gap)


class Features(DistillationLoss):
    """Not of logits: that it has no gradient there says nothing."""

    student_layers = ("dense",)

    def compute(self, step):
        return ops.mean(step.student_features["dense"] ** 2, axis=-1)


def look(student, losses, **kwargs):
    return diagnose(tiny_models.teacher(), student, (X, Y), losses, verbose=0, **kwargs)


def named(report):
    return {f.name: f for f in report.findings}


def outputs(model):
    return np.asarray(ops.convert_to_numpy(model(X, training=False)), "float64")


def test_values_and_gradients_are_those_of_the_formulas():
    student = tiny_models.student()
    report = look(student, KD(temperature=2.0, weight=0.5))
    s, t = outputs(student), outputs(tiny_models.teacher())
    q, p = oracles.softmax(s / 2), oracles.softmax(t / 2)
    pull = np.linalg.norm(2 * (q - p), axis=-1).mean()
    value = 4 * (p * (np.log(p) - np.log(q))).sum(-1).mean()
    label = tiny_models.one_hot(Y)
    task = -np.log((oracles.softmax(s) * label).sum(-1)).mean()
    task_pull = np.linalg.norm(oracles.softmax(s) - label, axis=-1).mean()
    own = report["losses"]["kd"]
    found = [own[k] for k in ("value", "gradient_norm", "to_task", "gradient_to_task")]
    expected = [value, pull, 0.5 * value / task, 0.5 * pull / task_pull]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert own["weight"] == 0.5
    assert report["task"]["value"] == pytest.approx(task, rel=1e-4)
    assert report["task"]["gradient_norm"] == pytest.approx(task_pull, rel=1e-4)


def test_the_head_does_not_matter_to_the_task():
    plain, probable = tiny_models.student(), tiny_models.student("softmax")
    tasks = [look(student, KD())["task"] for student in (plain, probable)]
    for name in ("value", "gradient_norm"):
        assert tasks[0][name] == pytest.approx(tasks[1][name], rel=1e-4)


def test_a_term_without_gradient_is_found_and_one_of_features_is_not():
    student = tiny_models.student()
    student.layers[0].name = "dense"
    report = look(student, {"agreeing": Agreeing(), "features": Features()})
    assert [f.name for f in report.findings if f.severity != "note"] == [
        "zero_gradient"
    ]
    assert "`agreeing`" in named(report)["zero_gradient"].message
    assert "gradient_norm" not in report["losses"]["features"]
    assert "`features` acts through" in named(report)["not_measured"].message
    assert report["losses"]["features"]["value"] > 0


def test_equal_models_need_no_gradient():
    report = diagnose(
        tiny_models.teacher(), tiny_models.teacher(), (X, Y), Agreeing(), verbose=0
    )
    assert "zero_gradient" not in named(report)


def test_a_root_at_zero_is_found():
    finding = named(look(tiny_models.student(), Careless()))["not_finite"]
    assert finding.severity == "error" and "`careless`" in finding.message


@pytest.mark.parametrize("weight", [1e-4, 1e4])
def test_a_term_that_drowns_or_is_drowned_is_a_note(weight):
    report = look(tiny_models.student(), KD(weight=weight))
    assert named(report)["unbalanced"].severity == "note"
    assert report.healthy


def test_the_task_loss_is_the_students_own():
    student = tiny_models.student()
    student.compile("adam", keras.losses.SparseCategoricalCrossentropy(True))
    weighted = tiny_models.student()
    weighted.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(True), loss_weights=3.0
    )
    once, thrice = (look(model, KD())["task"]["value"] for model in (student, weighted))
    assert thrice == pytest.approx(3 * once, rel=1e-5)
