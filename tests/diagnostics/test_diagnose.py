"""Each planted fault is found as what it is, and a healthy pair has none."""

import json

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_dtkd import Distiller, diagnose
from keras_dtkd.diagnostics.report import Report
from keras_dtkd.functional.divergences import kl
from keras_dtkd.functional.statistics import soft_log_probs
from keras_dtkd.losses import DIST, DKD, DTKD, KD, DistillationLoss, LogitMSE
from keras_dtkd.teachers import Ensemble
from keras_dtkd.views import View
from tests import tiny_models
from tests.diagnostics.conftest import network, train
from tests.stub_teachers import Says


def look(*args, **kwargs):
    return diagnose(*args, batches=2, verbose=0, **kwargs)


def found(report, *severities):
    severities = severities or ("error", "warning")
    return [f.name for f in report.findings if f.severity in severities]


def with_head(model, *more):
    """The same model with something after it."""
    return keras.Sequential([keras.Input((64,)), model, *more])


def test_a_healthy_pair_has_no_finding_with_any_of_these_losses(digits, student):
    losses = [DTKD(), KD(), DKD(), DIST()]
    report = look(digits.teacher, student, (digits.x, digits.y), losses)
    assert report.healthy, str(report)
    assert not found(report, "error", "warning")
    assert report["teacher"]["accuracy"] > 0.95
    assert list(report["losses"]) == ["dtkd", "kd", "dkd", "dist"]


def test_a_trained_student_is_healthy_too(digits, student):
    train(student, digits.x, digits.y, epochs=4)
    report = look(digits.teacher, student, (digits.x, digits.y))
    assert report.healthy, str(report)
    assert report["student"]["accuracy"] > 0.8


@pytest.mark.parametrize("head", ["dense", "layer", "lambda"])
def test_a_softmax_teacher_passed_as_logits(digits, student, head):
    last = {
        "dense": layers.Softmax(),
        "layer": layers.Activation("softmax"),
        "lambda": layers.Lambda(lambda z: ops.softmax(z), output_shape=(10,)),
    }[head]
    teacher = with_head(digits.teacher, last)
    report = look(teacher, student, (digits.x, digits.y), KD(), from_logits=True)
    assert found(report) == ["probabilities_as_logits"]
    assert "teacher" in report.findings[0].message
    # And what else there is to know is known.
    assert report["teacher"]["accuracy"] > 0.95
    assert look(teacher, student, (digits.x, digits.y), KD()).healthy


def test_a_teacher_that_says_it_gives_logits_and_does_not():
    x, y = tiny_models.data()
    p = np.full((32, 4), 0.1, "float32")
    p[np.arange(32), y] = 0.7
    report = look(Says(p, "logits"), tiny_models.student(), (x, y), KD())
    assert found(report) == ["probabilities_as_logits"]


def test_logits_passed_as_probabilities(digits, student):
    report = look(
        digits.teacher, student, (digits.x, digits.y), KD(), from_logits=False
    )
    assert found(report) == ["logits_as_probabilities"]


@pytest.mark.parametrize(
    "head, loss, name",
    [
        (None, "sparse_categorical_crossentropy", "logits_as_probabilities"),
        (
            "softmax",
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "probabilities_as_logits",
        ),
    ],
)
def test_a_student_compiled_with_the_other_kind_of_loss(digits, head, loss, name):
    student = network(16, head=head)
    student.compile("adam", loss)
    report = look(digits.teacher, student, (digits.x, digits.y), KD())
    # TensorFlow's own goes back to the logits behind a softmax.
    harmless = head == "softmax" and keras.backend.backend() == "tensorflow"
    assert found(report) == ([] if harmless else [name])
    for finding in report.findings:
        assert f"from_logits={head is None}" in finding.message


@pytest.mark.parametrize("several", [False, True])
def test_a_loss_by_its_name_among_others(several):
    x, y = tiny_models.data()
    if several:
        teacher, student = (tiny_models.two_outputs("dict", seed=s) for s in (0, 4))
        loss = {"label": "sparse_categorical_crossentropy", "size": "mse"}
        y, output = {"label": y, "size": x[:, :1]}, "label"
    else:
        teacher, student, output = tiny_models.teacher(), tiny_models.student(), None
        loss = ["sparse_categorical_crossentropy"]
    student.compile("adam", loss)
    report = look(teacher, student, (x, y), KD(), output=output)
    assert "logits_as_probabilities" in found(report)


def test_permuted_classes(digits, student):
    order = np.random.default_rng(0).permutation(10)
    report = look(digits.teacher, student, (digits.x, order[digits.y]), KD())
    assert found(report) == ["permuted_classes"]
    moved = [f"{i}→{c}" for i, c in enumerate(order) if i != c]
    assert all(pair in report.findings[0].message for pair in moved)


def test_a_chance_teacher(digits, student):
    keras.utils.set_random_seed(2)
    report = look(network(32), student, (digits.x, digits.y), KD())
    assert found(report) == ["chance_teacher"]


@pytest.mark.parametrize("factor", [1 / 16, 1 / 255, 255])
def test_inputs_scaled_twice_or_not_at_all(digits, student, factor):
    x = digits.x * np.float32(factor)
    report = look(digits.teacher, student, (x, digits.y), KD())
    assert set(found(report)) == {"inputs_scaled"}
    # A network of rectifiers chooses alike on inputs too large.
    assert factor > 1 or found(report, "error") == ["inputs_scaled"]


def test_inputs_scaled_twice_show_without_labels(digits, student):
    report = look(digits.teacher, student, (digits.x / 255,), KD())
    assert set(found(report)) == {"inputs_scaled"}


def test_a_rescaling_in_the_teacher_alone(digits):
    keras.utils.set_random_seed(1)
    student = network(16, rescaling=False)
    report = look(digits.teacher, student, (digits.x, digits.y), KD())
    assert "input_ranges" in found(report, "warning", "note")
    assert report["inputs"]["teacher"]["max"] == 1.0
    assert report["inputs"]["student"]["max"] == 16.0


class Forgetful(DistillationLoss):
    """Of a user who has not heard of T²."""

    def call(self, student_logits, teacher_logits, labels=None):
        return kl(
            soft_log_probs(teacher_logits, 4.0), soft_log_probs(student_logits, 4.0)
        )


def test_t_squared_forgotten_in_a_custom_loss(digits, student):
    report = look(digits.teacher, student, (digits.x, digits.y), Forgetful())
    assert found(report) == ["t_squared_forgotten"]
    assert "temperature of 4" in report.findings[0].message


@pytest.mark.invariant(number=9)
@pytest.mark.parametrize("labels", [True, False])
def test_nothing_changes_in_either_model(labels):
    teacher = tiny_models.teacher(compiled=True)
    student = tiny_models.student(dropout=0.3, norm=True)
    student.compile("adam", keras.losses.SparseCategoricalCrossentropy(True))
    x, y = tiny_models.data()
    student.train_on_batch(x, y)
    before = tiny_models.everything(teacher), tiny_models.everything(student)
    functions = student.train_function, student.optimizer, student.loss
    losses, noise = [DTKD(), KD(view="noise")], layers.GaussianNoise(0.1)
    report = look(
        teacher, student, (x, y)[: 1 + labels], losses, views={"noise": View(noise)}
    )
    assert ("accuracy" in report["teacher"]) == labels
    assert (tiny_models.everything(teacher), tiny_models.everything(student)) == before
    assert (student.train_function, student.optimizer, student.loss) == functions


def test_what_it_looked_at_trains_as_if_it_had_not():
    x, y = tiny_models.data()

    def trained(looked):
        keras.utils.set_random_seed(3)
        teacher, student, loss = (
            tiny_models.teacher(),
            tiny_models.student(dropout=0.3),
            KD(),
        )
        if looked:
            look(teacher, student, (x, y), loss)
        Distiller(teacher, student, loss).fit(x, y, epochs=2, verbose=0)
        return student

    assert tiny_models.same(trained(True), trained(False))


def test_labels_are_not_needed(digits, student):
    report = look(digits.teacher, student, (digits.x,))
    assert report.healthy, str(report)
    assert "accuracy" not in report["teacher"] and "task" not in report.figures
    assert report["losses"]["dtkd"]["gradient_norm"] > 0


def test_labels_that_a_loss_cannot_do_without(digits, student):
    report = look(digits.teacher, student, (digits.x,), DKD())
    assert found(report) == ["refused"]
    assert "needs labels" in report.findings[0].message


def test_labels_that_name_no_class(digits, student):
    report = look(digits.teacher, student, (digits.x, digits.y + 1), KD())
    assert "labels" in found(report)


@pytest.mark.parametrize("compiled", [False, True])
def test_labels_of_text(compiled):
    x, y = tiny_models.data()
    student = tiny_models.student()
    if compiled:
        student.compile("adam", keras.losses.SparseCategoricalCrossentropy(True))
    report = look(tiny_models.teacher(), student, (x, np.array(list("abcd"))[y]), DKD())
    assert found(report) == ["labels"]


def test_labels_that_are_all_missing():
    x, y = tiny_models.data()
    report = look(tiny_models.teacher(), tiny_models.student(), (x, 0 * y - 1), DKD())
    told = {f.name: f.message for f in report.findings}
    assert "needs labels" in told["zero_gradient"]
    assert "argmax" not in told["zero_gradient"]


@pytest.mark.invariant(number=10)
def test_what_a_distiller_refuses_is_a_finding(digits):
    report = look(digits.teacher, keras.Sequential([layers.Dense(9)]), (digits.x,))
    assert found(report) == ["refused"]
    assert "10 classes" in report.findings[0].message
    assert not report.healthy


@pytest.mark.invariant(number=10)
def test_wrong_arguments_are_refused(digits, student):
    with pytest.raises(TypeError, match="student"):
        look(digits.teacher, "student", (digits.x,))
    with pytest.raises(ValueError, match="from_logits"):
        look(digits.teacher, student, (digits.x,), from_logits="maybe")


@pytest.mark.parametrize("head, classes", [("sigmoid", 3), (None, 1)])
def test_labels_each_by_itself(head, classes):
    x, _ = tiny_models.data()
    y = (x[:, :classes] > 0).astype("float32")
    student = tiny_models.student(head, classes)
    loss = keras.losses.BinaryCrossentropy(from_logits=head is None)
    student.compile("adam", loss)
    teacher = tiny_models.teacher(head, classes)
    teacher.compile("adam", loss)
    report = look(teacher, student, (x, y), LogitMSE())
    assert not found(report, "error"), str(report)
    assert report["teacher"]["accuracy"] == 1.0
    assert report["task"]["gradient_norm"] > 0


def test_masked_positions_count_nowhere():
    x = np.random.default_rng(0).integers(1, 9, (40, 5))
    x[:, 3:] = 0
    y = x % 3
    teacher = tiny_models.sequence()
    teacher.layers[0].set_weights([np.eye(9, 5) * 9])
    kernel = np.zeros((5, 3))
    kernel[np.arange(5), np.arange(5) % 3] = 1
    teacher.layers[1].set_weights([kernel, np.zeros(3)])
    report = look(teacher, tiny_models.sequence(5), (x, y), LogitMSE())
    assert report["data"]["samples"] == 40 * 3
    assert 0.5 < report["teacher"]["accuracy"] < 1
    assert "permuted_classes" not in found(report)


def test_models_with_several_outputs():
    x, y = tiny_models.data()
    teacher, student = (
        tiny_models.two_outputs("dict"),
        tiny_models.two_outputs("dict", seed=4),
    )
    student.compile(
        "adam",
        {"label": keras.losses.SparseCategoricalCrossentropy(True), "size": "mse"},
    )
    labels = {"label": y, "size": x[:, :1]}
    report = look(teacher, student, (x, labels), KD(), output="label")
    assert report["task"]["gradient_norm"] > 0


def test_an_ensemble_teaches(digits, student):
    teacher = Ensemble([digits.teacher, with_head(digits.teacher, layers.Softmax())])
    report = look(teacher, student, (digits.x, digits.y), KD())
    assert report.healthy, str(report)


def test_it_prints_its_numbers_unless_told_otherwise(digits, student, capsys):
    report = diagnose(digits.teacher, student, (digits.x, digits.y), KD())
    assert isinstance(report, Report)
    printed = capsys.readouterr().out
    assert printed.strip() == str(report).strip()
    for number in (report["teacher"]["accuracy"], report["losses"]["kd"]["value"]):
        assert f"{number:.4g}" in printed
    look(digits.teacher, student, (digits.x, digits.y), KD())
    assert not capsys.readouterr().out


def test_the_report_can_be_written_as_json(digits, student):
    report = look(digits.teacher, student, (digits.x, digits.y), KD())
    assert json.loads(json.dumps(report.as_dict())) == report.as_dict()


@pytest.mark.parametrize("compiled", [False, True])
def test_one_hot_labels_of_another_width(compiled):
    x, y = tiny_models.data()
    student = tiny_models.student()
    if compiled:
        student.compile("adam", keras.losses.CategoricalCrossentropy(True))
    report = look(tiny_models.teacher(), student, (x, tiny_models.one_hot(y, 7)), DKD())
    assert found(report) == ["labels"]


def test_beside_labels_that_do_not_fit_no_other_reason_is_told(digits, student):
    report = look(digits.teacher, student, (digits.x, digits.y + 1), KD())
    assert "labels" in found(report)
    causes = {"permuted_classes", "chance_teacher", "inputs_scaled", "calibration"}
    assert not causes & {f.name for f in report.findings}


def test_nan_in_the_inputs_are_named():
    x, y = tiny_models.data()
    x[::3, 2] = np.nan
    report = look(tiny_models.teacher(), tiny_models.student(), (x, y), KD())
    assert found(report) == ["refused"] and "NaN in its inputs" in str(report)

    def cleaned(model):
        inputs = keras.Input((tiny_models.FEATURES,))
        return keras.Model(inputs, model(ops.nan_to_num(inputs)))

    pair = cleaned(tiny_models.teacher()), cleaned(tiny_models.student())
    report = look(*pair, (x, y), KD())
    assert found(report) == ["nan_inputs"]
    assert np.isfinite(list(report["inputs"]["given"].values())).all()


def test_nan_in_a_later_batch_are_named_too():
    x, y = tiny_models.data(128)
    batches = [(x[:64], y[:64]), (x[64:] * np.nan, y[64:])]
    report = look(tiny_models.teacher(), tiny_models.student(), iter(batches), KD())
    assert "nan_inputs" in found(report, "error")
