"""Losses, temperatures, views and teachers bring checks of their own."""

import warnings

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller, diagnose
from keras_dtkd.core.columns import get_columns
from keras_dtkd.core.issue import ERROR, INFO, WARNING, Issue, report_issues
from keras_dtkd.datasets import with_columns
from keras_dtkd.diagnostics import Issue as PublicIssue
from keras_dtkd.losses import DKD, KD
from keras_dtkd.temperatures import Constant
from keras_dtkd.views import View
from tests.stub_teachers import StubTeacher
from tests.tiny_models import CLASSES, data, numbers, one_hot, same, student, teacher

pytestmark = pytest.mark.invariant(number=10)

X, Y = data(32)


def with_issues(base, *severities):
    """A subclass with one issue of each severity."""

    class Checked(base):
        def issues(self, context):
            issues = [
                PublicIssue("mine", s, f"my {s}.", "Mend it.") for s in severities
            ]
            return [*super().issues(context), *issues]

    return Checked


def stub_teacher(*severities):
    return with_issues(StubTeacher, *severities)(4 * one_hot(Y), "logits")


PARTS = {
    "loss": lambda *s: (teacher(), with_issues(KD, *s)(), None),
    "temperature": lambda *s: (teacher(), KD(with_issues(Constant, *s)(4.0)), None),
    "view": lambda *s: (
        teacher(),
        KD(view="noise"),
        {"noise": with_issues(View, *s)(keras.layers.GaussianNoise(0.1))},
    ),
    "teacher": lambda *s: (stub_teacher(*s), KD(), None),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("run", ["fit", "train_on_batch"])
def test_an_error_of_a_part_stops_before_the_first_step(part, run):
    large, loss, views = PARTS[part](ERROR)
    small = student()
    before = numbers(small)
    distiller = Distiller(large, small, loss, views=views)
    with pytest.raises(ValueError, match="^my error. Mend it.$"):
        getattr(distiller, run)(X, Y)
    assert same(before, small)


@pytest.mark.parametrize("part", PARTS)
def test_a_warning_of_a_part_warns_once_and_an_info_does_not(part):
    large, loss, views = PARTS[part](WARNING, INFO)
    distiller = Distiller(large, student(), loss, views=views)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        distiller.fit(X, Y, batch_size=32, shuffle=False, verbose=0)
    messages = [str(w.message) for w in caught if "my" in str(w.message)]
    assert messages == ["my warning. Mend it."]


@pytest.mark.parametrize("part", PARTS)
def test_diagnose_lists_every_issue_of_a_part(part):
    large, loss, views = PARTS[part](WARNING, ERROR, INFO)
    report = diagnose(large, student(), (X, Y), loss, views=views, verbose=0)
    issues = [issue for issue in report.issues if issue.code == "mine"]
    assert [issue.severity for issue in issues] == [ERROR, WARNING, INFO]


def test_issues_get_what_is_known_of_models_and_data():
    contexts = []

    class Recording(KD):
        def issues(self, context):
            contexts.append(context)
            return super().issues(context)

    loss = Recording()
    Distiller(teacher(), student(), loss).fit(X, Y, batch_size=8, verbose=0)
    first, last = contexts[0], contexts[-1]
    assert first.compiled is None and last.compiled.loss is not None
    assert (
        last.run == "fit" and last.batch_size == 8 and last.name_of(loss) == "recording"
    )
    assert last.sample.x.shape == X.shape and np.array_equal(last.y, Y)
    assert last.student_spec.shape[-1] == last.teacher_spec.shape[-1] == CLASSES
    assert last.teacher_outputs.shape == (32, CLASSES)


def test_losses_are_not_checked_where_the_teacher_does_not_run():
    distiller = Distiller(teacher(), student(), with_issues(KD, ERROR)())
    assert np.isfinite(distiller.evaluate(X, Y, verbose=0)[0])


def test_diagnose_lists_several_errors_at_once():
    values = teacher().get_weights()
    values[0][0, 0] = np.nan
    large, small = teacher(), student()
    large.set_weights(values)
    small.trainable = False
    report = diagnose(large, small, (X, Y + 1), verbose=0)
    codes = {issue.code for issue in report.issues if issue.severity == ERROR}
    expected = {"teacher_not_finite", "no_trainable_weights", "invalid_labels"}
    assert codes == expected


def test_a_warning_points_to_the_line_of_the_user():
    with pytest.warns(UserWarning) as caught:
        report_issues([Issue("code", WARNING, "message")])
    assert caught[0].filename == __file__


def test_the_exception_that_showed_an_error_is_its_cause():
    cause = TypeError("no")
    with pytest.raises(ValueError, match="message hint") as caught:
        report_issues([Issue("code", ERROR, "message", "hint", cause)])
    assert caught.value.__cause__ is cause


class Column(View):
    """A column of the data in place of the inputs."""

    def __init__(self, column):
        super().__init__(keras.layers.Identity(), name=column)
        self.column = column

    def show(self, x, columns):
        return columns[self.column]

    def issues(self, context):
        if self.column in get_columns(context.sample.x):
            return []
        return [Issue("column", ERROR, "no column.", "Add it.")]


class Batch(keras.utils.PyDataset):
    """One batch."""

    def __init__(self, *batch):
        super().__init__()
        self.batch = batch

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.batch


@pytest.mark.parametrize("as_data", [lambda *arrays: arrays, Batch])
@pytest.mark.parametrize(
    ("loss", "validation", "match"),
    [(KD(view="other"), (X, Y), "no column. Add it.$"), (DKD(), (X,), "needs labels")],
)
def test_validation_data_that_losses_are_evaluated_on_is_checked(
    loss, validation, match, as_data
):
    train = with_columns(X, other=X), Y
    views = {"other": Column("other")} if loss.view else None
    d = Distiller(teacher(), student(), loss, views=views, evaluate_distillation=True)
    before = numbers(d.student)
    with pytest.raises(ValueError, match=f"^Validation data, for .*{match}"):
        d.fit(*train, validation_data=as_data(*validation), verbose=0)
    assert same(before, d.student)
    logs = d.fit(*train, validation_data=as_data(*train), verbose=0).history
    assert f"val_{loss.name}" in logs
    # Where the losses are not evaluated, labels are enough.
    d.evaluate_distillation = False
    validation = validation if len(validation) > 1 else (X, Y)
    d.fit(*train, validation_data=as_data(*validation), verbose=0)
