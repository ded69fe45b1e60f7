"""A fit asks an ensemble's members for what they need of it."""

import keras

from keras_dtkd import Distiller
from keras_dtkd.core.issue import INFO, Issue
from keras_dtkd.losses import KD
from keras_dtkd.teachers import Ensemble, ModelTeacher
from tests.tiny_models import data, student, teacher

X, Y = data(32)


class Recorder(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.epochs = []

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(epoch)


class TeacherWithHooks(ModelTeacher):
    def __init__(self, model, share=None):
        super().__init__(model)
        self.share = share
        self.recorder = Recorder()

    def training_callbacks(self, distiller):
        return [self.recorder]

    def on_epoch_begin(self, epoch, epochs):
        self.notified = [*getattr(self, "notified", []), (epoch, epochs)]

    def hold_out(self, data):
        return self.share

    def issues(self, context):
        return [Issue("recorded", INFO, f"share {self.share}")]


def test_callbacks_of_all_members_run_in_fit():
    members = [TeacherWithHooks(teacher()), TeacherWithHooks(teacher())]
    Distiller(Ensemble(members), student(), KD()).fit(X, Y, epochs=2, verbose=0)
    assert [member.recorder.epochs for member in members] == [[0, 1], [0, 1]]
    assert [member.notified for member in members] == [[(1, 2), (2, 2)]] * 2


def test_the_largest_share_that_a_member_needs_is_held_out():
    shares = None, 0.25, 0.125
    members = [TeacherWithHooks(teacher(), share) for share in shares]
    held_out = []

    class Inspector(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            held_out.extend(self.model.run_context.held_out)

    d = Distiller(Ensemble(members), student(), KD())
    d.fit(X, Y, batch_size=8, verbose=0, callbacks=[Inspector()])
    assert [len(array) for array in held_out] == [8, 8]
    assert Ensemble(members[:1]).hold_out(None) is None


def test_issues_of_all_members_are_returned():
    members = [TeacherWithHooks(teacher(), share) for share in (0.1, 0.2)]
    issues = Ensemble([Ensemble(members), *members]).issues(None)
    assert [issue.message for issue in issues] == ["share 0.1", "share 0.2"] * 2
