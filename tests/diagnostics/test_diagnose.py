"""Each planted fault is reported with its code, and a healthy pair has no issue."""

import json

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_dtkd import Distiller, diagnose
from keras_dtkd.diagnostics.report import Report
from keras_dtkd.losses import DIST, DKD, DTKD, KD, LogitMSE
from keras_dtkd.teachers import Ensemble
from keras_dtkd.views import View
from tests import tiny_models
from tests.diagnostics.conftest import network, train
from tests.stub_teachers import StubTeacher


def run(*args, **kwargs):
    return diagnose(*args, batches=2, verbose=0, **kwargs)


def codes(report, *severities):
    severities = severities or ("error", "warning")
    return [issue.code for issue in report.issues if issue.severity in severities]


def followed_by(model, *layers):
    return keras.Sequential([keras.Input((64,)), model, *layers])


def test_healthy_pair_has_no_issue_with_any_of_these_losses(digits, student):
    losses = [DTKD(), KD(), DKD(), DIST()]
    report = run(digits.teacher, student, (digits.x, digits.y), losses)
    assert report.is_healthy, str(report)
    assert not codes(report, "error", "warning")
    assert report["teacher"]["accuracy"] > 0.95
    assert list(report["losses"]) == ["dtkd", "kd", "dkd", "dist"]


def test_trained_student_is_healthy(digits, student):
    train(student, digits.x, digits.y, epochs=4)
    report = run(digits.teacher, student, (digits.x, digits.y))
    assert report.is_healthy, str(report)
    assert report["student"]["accuracy"] > 0.8


@pytest.mark.parametrize("last", ["softmax", "activation", "lambda"])
def test_softmax_teacher_passed_as_logits(digits, student, last):
    softmax = {
        "softmax": layers.Softmax(),
        "activation": layers.Activation("softmax"),
        "lambda": layers.Lambda(lambda z: ops.softmax(z), output_shape=(10,)),
    }[last]
    teacher = followed_by(digits.teacher, softmax)
    report = run(teacher, student, (digits.x, digits.y), KD(), from_logits=True)
    assert codes(report) == ["probabilities_as_logits"]
    assert "teacher" in report.issues[0].message
    # Everything else is measured with the inferred output kinds.
    assert report["teacher"]["accuracy"] > 0.95
    assert run(teacher, student, (digits.x, digits.y), KD()).is_healthy


def test_teacher_that_declares_probabilities_as_logits():
    x, y = tiny_models.data()
    p = np.full((32, 4), 0.1, "float32")
    p[np.arange(32), y] = 0.7
    report = run(StubTeacher(p, "logits"), tiny_models.student(), (x, y), KD())
    assert codes(report) == ["probabilities_as_logits"]


def test_logits_passed_as_probabilities(digits, student):
    report = run(digits.teacher, student, (digits.x, digits.y), KD(), from_logits=False)
    assert codes(report) == ["logits_as_probabilities"]


@pytest.mark.parametrize(
    "activation, loss, code",
    [
        (None, "sparse_categorical_crossentropy", "logits_as_probabilities"),
        (
            "softmax",
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "probabilities_as_logits",
        ),
    ],
)
def test_student_compiled_with_the_other_from_logits(digits, activation, loss, code):
    student = network(16, activation=activation)
    student.compile("adam", loss)
    report = run(digits.teacher, student, (digits.x, digits.y), KD())
    # TensorFlow's loss recovers the logits before a softmax.
    harmless = activation == "softmax" and keras.backend.backend() == "tensorflow"
    assert codes(report) == ([] if harmless else [code])
    for issue in report.issues:
        assert f"from_logits={activation is None}" in str(issue)


@pytest.mark.parametrize("multi_output", [False, True])
def test_loss_by_name_in_a_dict_or_list(multi_output):
    x, y = tiny_models.data()
    if multi_output:
        teacher, student = (tiny_models.two_outputs("dict", seed=s) for s in (0, 4))
        loss = {"label": "sparse_categorical_crossentropy", "size": "mse"}
        y, output = {"label": y, "size": x[:, :1]}, "label"
    else:
        teacher, student, output = tiny_models.teacher(), tiny_models.student(), None
        loss = ["sparse_categorical_crossentropy"]
    student.compile("adam", loss)
    report = run(teacher, student, (x, y), KD(), output=output)
    assert "logits_as_probabilities" in codes(report)


def test_permuted_classes(digits, student):
    order = np.random.default_rng(0).permutation(10)
    report = run(digits.teacher, student, (digits.x, order[digits.y]), KD())
    assert codes(report) == ["permuted_classes"]
    moved = [f"{i}→{c}" for i, c in enumerate(order) if i != c]
    assert all(pair in report.issues[0].message for pair in moved)


def test_untrained_teacher_is_at_chance(digits, student):
    keras.utils.set_random_seed(2)
    report = run(network(32), student, (digits.x, digits.y), KD())
    assert codes(report) == ["chance_teacher"]


def test_a_student_that_is_better_may_be_the_teacher(digits):
    keras.utils.set_random_seed(2)
    weak = train(network(8), digits.x, digits.y, epochs=1)
    report = run(weak, digits.teacher, (digits.x, digits.y), KD())
    assert 0.2 < report["teacher"]["accuracy"] < report["student"]["accuracy"] - 0.1
    assert "better_student" in codes(report, "warning")
    assert "`Distiller(teacher, student)`" in report.issues[-1].hint


@pytest.mark.parametrize("factor", [1 / 255, 255])
def test_inputs_scaled_twice_or_not_at_all(digits, student, factor):
    x = digits.x * np.float32(factor)
    report = run(digits.teacher, student, (x, digits.y), KD())
    assert set(codes(report)) == {"inputs_scaled"}
    # A network of rectifiers predicts the same classes on larger inputs.
    assert factor > 1 or codes(report, "error") == ["inputs_scaled"]


def test_inputs_scaled_twice_are_reported_without_labels(digits, student):
    report = run(digits.teacher, student, (digits.x / 255,), KD())
    assert set(codes(report)) == {"inputs_scaled"}


def test_rescaling_in_the_teacher_only(digits):
    keras.utils.set_random_seed(1)
    student = network(16, rescaling=False)
    report = run(digits.teacher, student, (digits.x, digits.y), KD())
    assert "input_ranges" in codes(report, "warning", "info")
    assert report["inputs"]["teacher"]["max"] == 1.0
    assert report["inputs"]["student"]["max"] == 16.0


@pytest.mark.invariant(number=9)
@pytest.mark.parametrize("labels", [True, False])
def test_models_are_unchanged(labels):
    teacher = tiny_models.teacher(compiled=True)
    student = tiny_models.student(dropout=0.3, norm=True)
    student.compile("adam", keras.losses.SparseCategoricalCrossentropy(True))
    x, y = tiny_models.data()
    student.train_on_batch(x, y)
    before = tiny_models.everything(teacher), tiny_models.everything(student)
    functions = student.train_function, student.optimizer, student.loss
    losses, noise = [DTKD(), KD(view="noise")], layers.GaussianNoise(0.1)
    report = run(
        teacher, student, (x, y)[: 1 + labels], losses, views={"noise": View(noise)}
    )
    assert ("accuracy" in report["teacher"]) == labels
    assert (tiny_models.everything(teacher), tiny_models.everything(student)) == before
    assert (student.train_function, student.optimizer, student.loss) == functions


def test_training_after_a_diagnosis_is_unchanged():
    x, y = tiny_models.data()

    def trained(diagnosed):
        keras.utils.set_random_seed(3)
        teacher, student, loss = (
            tiny_models.teacher(),
            tiny_models.student(dropout=0.3),
            KD(),
        )
        if diagnosed:
            run(teacher, student, (x, y), loss)
        Distiller(teacher, student, loss).fit(x, y, epochs=2, verbose=0)
        return student

    assert tiny_models.same(trained(True), trained(False))


def test_labels_are_optional(digits, student):
    report = run(digits.teacher, student, (digits.x,))
    assert report.is_healthy, str(report)
    assert "accuracy" not in report["teacher"] and "task" not in report
    assert report["losses"]["dtkd"]["gradient_norm"] > 0


def test_missing_labels_of_a_loss_that_needs_them(digits, student):
    report = run(digits.teacher, student, (digits.x,), DKD())
    assert codes(report) == ["missing_labels"]
    assert "needs labels" in report.issues[0].message


def test_labels_out_of_range(digits, student):
    report = run(digits.teacher, student, (digits.x, digits.y + 1), KD())
    assert "invalid_labels" in codes(report)


@pytest.mark.parametrize("compiled", [False, True])
def test_text_labels(compiled):
    x, y = tiny_models.data()
    student = tiny_models.student()
    if compiled:
        student.compile("adam", keras.losses.SparseCategoricalCrossentropy(True))
    report = run(tiny_models.teacher(), student, (x, np.array(list("abcd"))[y]), DKD())
    assert codes(report) == ["invalid_labels"]


def test_loss_that_needs_labels_where_all_are_ignored():
    x, y = tiny_models.data()
    student = tiny_models.student()
    loss = keras.losses.SparseCategoricalCrossentropy(True, ignore_class=-1)
    student.compile("adam", loss)
    report = run(tiny_models.teacher(), student, (x, 0 * y - 1), DKD())
    hints = {issue.code: issue.hint for issue in report.issues}
    assert "needs labels" in hints["zero_gradient"]
    assert "argmax" not in hints["zero_gradient"]


@pytest.mark.invariant(number=10)
def test_error_of_the_distiller_is_an_issue(digits):
    report = run(digits.teacher, keras.Sequential([layers.Dense(9)]), (digits.x,))
    assert codes(report) == ["different_classes"]
    assert "10 classes" in report.issues[0].message
    assert not report.is_healthy


@pytest.mark.invariant(number=10)
def test_invalid_arguments_are_rejected(digits, student):
    with pytest.raises(TypeError, match="student"):
        run(digits.teacher, "student", (digits.x,))
    with pytest.raises(ValueError, match="from_logits"):
        run(digits.teacher, student, (digits.x,), from_logits="maybe")


@pytest.mark.parametrize("activation, classes", [("sigmoid", 3), (None, 1)])
def test_multilabel_models(activation, classes):
    x, _ = tiny_models.data()
    y = (x[:, :classes] > 0).astype("float32")
    student = tiny_models.student(activation, classes)
    loss = keras.losses.BinaryCrossentropy(from_logits=activation is None)
    student.compile("adam", loss)
    teacher = tiny_models.teacher(activation, classes)
    teacher.compile("adam", loss)
    report = run(teacher, student, (x, y), LogitMSE())
    assert not codes(report, "error"), str(report)
    assert report["teacher"]["accuracy"] == 1.0
    assert report["task"]["gradient_norm"] > 0


def test_masked_positions_are_ignored():
    x = np.random.default_rng(0).integers(1, 9, (40, 5))
    x[:, 3:] = 0
    y = x % 3
    teacher = tiny_models.sequence()
    teacher.layers[0].set_weights([np.eye(9, 5) * 9])
    kernel = np.zeros((5, 3))
    kernel[np.arange(5), np.arange(5) % 3] = 1
    teacher.layers[1].set_weights([kernel, np.zeros(3)])
    report = run(teacher, tiny_models.sequence(5), (x, y), LogitMSE())
    assert report["data"]["samples"] == 40 * 3
    assert 0.5 < report["teacher"]["accuracy"] < 1
    assert "permuted_classes" not in codes(report)


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
    report = run(teacher, student, (x, labels), KD(), output="label")
    assert report["task"]["gradient_norm"] > 0


def test_ensemble_teacher(digits, student):
    teacher = Ensemble([digits.teacher, followed_by(digits.teacher, layers.Softmax())])
    report = run(teacher, student, (digits.x, digits.y), KD())
    assert report.is_healthy, str(report)


def test_report_is_printed_unless_not_verbose(digits, student, capsys):
    report = diagnose(digits.teacher, student, (digits.x, digits.y), KD())
    assert isinstance(report, Report)
    printed = capsys.readouterr().out
    for number in (report["teacher"]["accuracy"], report["losses"]["kd"]["value"]):
        assert f"{number:.4g}" in printed
    run(digits.teacher, student, (digits.x, digits.y), KD())
    assert not capsys.readouterr().out


def test_report_can_be_written_as_json(digits, student):
    report = run(digits.teacher, student, (digits.x, digits.y), KD())
    assert json.loads(json.dumps(report.to_dict())) == report.to_dict()


@pytest.mark.parametrize("compiled", [False, True])
def test_one_hot_labels_of_another_width(compiled):
    x, y = tiny_models.data()
    student = tiny_models.student()
    if compiled:
        student.compile("adam", keras.losses.CategoricalCrossentropy(True))
    report = run(tiny_models.teacher(), student, (x, tiny_models.one_hot(y, 7)), DKD())
    assert codes(report) == ["invalid_labels"]


def test_invalid_labels_are_the_only_reason_reported(digits, student):
    report = run(digits.teacher, student, (digits.x, digits.y + 1), KD())
    assert "invalid_labels" in codes(report)
    causes = {"permuted_classes", "chance_teacher", "inputs_scaled", "calibration"}
    assert not causes & {i.code for i in report.issues}


def test_nan_inputs_are_reported():
    x, y = tiny_models.data()
    x[::3, 2] = np.nan
    report = run(tiny_models.teacher(), tiny_models.student(), (x, y), KD())
    assert codes(report) == ["nan_inputs"] and "NaN in its inputs" in str(report)

    def cleaned(model):
        inputs = keras.Input((tiny_models.FEATURES,))
        return keras.Model(inputs, model(ops.nan_to_num(inputs)))

    pair = cleaned(tiny_models.teacher()), cleaned(tiny_models.student())
    report = run(*pair, (x, y), KD())
    assert codes(report) == ["nan_inputs"]
    assert np.isfinite(list(report["inputs"]["given"].values())).all()


def test_nan_inputs_in_a_later_batch_are_reported():
    x, y = tiny_models.data(128)
    batches = [(x[:64], y[:64]), (x[64:] * np.nan, y[64:])]
    report = run(tiny_models.teacher(), tiny_models.student(), iter(batches), KD())
    assert "nan_inputs" in codes(report, "error")
