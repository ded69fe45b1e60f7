"""Values and gradients of each loss, and the issues with them."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import diagnose
from keras_dtkd.functional.statistics import agreement
from keras_dtkd.losses import KD, DistillationLoss
from tests import oracles, tiny_models

X, Y = tiny_models.data()


class Disagreement(DistillationLoss):
    """The share of samples on which the models differ: it has no gradient."""

    def call(self, student_logits, teacher_logits, labels=None):
        return 1.0 - agreement(student_logits, teacher_logits)


class RootAtZero(DistillationLoss):
    def call(self, student_logits, teacher_logits, labels=None):
        gap = ops.sum(student_logits, axis=-1) * 0.0
        return ops.sqrt(gap)


class Features(DistillationLoss):
    """Acts on an inner layer, and has no gradient in the logits."""

    student_layers = ("dense",)

    def compute(self, step):
        return ops.mean(step.student_features["dense"] ** 2, axis=-1)


def run(student, losses, **kwargs):
    return diagnose(tiny_models.teacher(), student, (X, Y), losses, verbose=0, **kwargs)


def by_code(report):
    return {issue.code: issue for issue in report.issues}


def outputs(model):
    return np.asarray(ops.convert_to_numpy(model(X, training=False)), "float64")


def test_values_and_gradients_equal_the_formulas():
    student = tiny_models.student()
    report = run(student, KD(temperature=2.0, weight=0.5))
    s, t = outputs(student), outputs(tiny_models.teacher())
    q, p = oracles.softmax(s / 2), oracles.softmax(t / 2)
    norm = np.linalg.norm(2 * (q - p), axis=-1).mean()
    value = 4 * (p * (np.log(p) - np.log(q))).sum(-1).mean()
    label = tiny_models.one_hot(Y)
    task = -np.log((oracles.softmax(s) * label).sum(-1)).mean()
    task_norm = np.linalg.norm(oracles.softmax(s) - label, axis=-1).mean()
    measured = report["losses"]["kd"]
    names = ("value", "gradient_norm", "to_task", "gradient_to_task")
    actual = [measured[name] for name in names]
    expected = [value, norm, 0.5 * value / task, 0.5 * norm / task_norm]
    np.testing.assert_allclose(actual, expected, rtol=1e-4)
    assert measured["weight"] == 0.5
    assert report["task"]["value"] == pytest.approx(task, rel=1e-4)
    assert report["task"]["gradient_norm"] == pytest.approx(task_norm, rel=1e-4)


def test_task_gradient_does_not_depend_on_the_output_kind():
    pair = tiny_models.student(), tiny_models.student("softmax")
    tasks = [run(student, KD())["task"] for student in pair]
    for name in ("value", "gradient_norm"):
        assert tasks[0][name] == pytest.approx(tasks[1][name], rel=1e-4)


def test_loss_without_gradient_is_an_issue_and_a_feature_loss_is_not():
    student = tiny_models.student()
    student.layers[0].name = "dense"
    report = run(student, {"step": Disagreement(), "features": Features()})
    severe = [issue.code for issue in report.issues if issue.severity != "info"]
    assert severe == ["zero_gradient"]
    assert "`step`" in by_code(report)["zero_gradient"].message
    assert "gradient_norm" not in report["losses"]["features"]
    assert "`features` acts through" in by_code(report)["not_measured"].message
    assert report["losses"]["features"]["value"] > 0


def test_equal_models_need_no_gradient():
    report = diagnose(
        tiny_models.teacher(), tiny_models.teacher(), (X, Y), Disagreement(), verbose=0
    )
    assert "zero_gradient" not in by_code(report)


def test_gradient_of_a_root_at_zero_is_not_finite():
    issue = by_code(run(tiny_models.student(), RootAtZero()))["not_finite"]
    assert issue.severity == "error" and "`root_at_zero`" in issue.message


@pytest.mark.parametrize("weight", [1e-4, 1e4])
def test_unbalanced_gradients_are_an_info(weight):
    report = run(tiny_models.student(), KD(weight=weight))
    assert by_code(report)["unbalanced"].severity == "info"
    assert report.is_healthy


def test_task_loss_is_the_one_the_student_was_compiled_with():
    student = tiny_models.student()
    student.compile("adam", keras.losses.SparseCategoricalCrossentropy(True))
    weighted = tiny_models.student()
    weighted.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(True), loss_weights=3.0
    )
    models = (student, weighted)
    value, tripled = (run(model, KD())["task"]["value"] for model in models)
    assert tripled == pytest.approx(3 * value, rel=1e-5)
