"""T² is missed where it is missing, and nowhere else."""

import keras

from keras_dtkd import diagnose
from keras_dtkd.functional.divergences import kl, reverse_kl
from keras_dtkd.functional.statistics import soften
from keras_dtkd.losses import KD, DistillationLoss
from keras_dtkd.temperatures import Constant


class Custom(DistillationLoss):
    """KL at a temperature, times a factor of its own."""

    def __init__(self, at, factor, declared=None, divergence=kl, **kwargs):
        super().__init__(**kwargs)
        self.at, self.factor, self.divergence = at, factor, divergence
        if declared is not None:
            self.temperature = declared

    def call(self, student_logits, teacher_logits, labels=None):
        return self.factor * self.divergence(
            soften(teacher_logits, self.at), soften(student_logits, self.at)
        )


FORGETFUL = {
    "undeclared": Custom(4.0, 1.0),
    "high": Custom(10.0, 1.0),
    "as a number": Custom(3.0, 1.0, declared=3.0),
    "as a rule": Custom(5.0, 1.0, declared=Constant(5.0)),
}
SOUND = {
    "squared": Custom(4.0, 16.0),
    "squared and declared": Custom(4.0, 16.0, declared=4.0),
    "without temperature": Custom(1.0, 1.0),
    "made up for by its weight": Custom(4.0, 1.0, weight=16.0),
    "another loss": Custom(1.0, 1.0, divergence=reverse_kl),
    "our own": KD(weight=1 / 16),
}


def test_it_is_missed_where_it_is_missing_and_nowhere_else(digits, student):
    report = diagnose(
        digits.teacher,
        student,
        (digits.x, digits.y),
        {**FORGETFUL, **SOUND},
        batches=2,
        verbose=0,
    )
    told = [f for f in report.findings if f.name == "t_squared_forgotten"]
    assert all(f.severity == "error" for f in told)
    named = {f.message.split("`")[1] for f in told}
    assert named == set(FORGETFUL)
    assert not [f for f in report.findings if f.severity == "warning"]


def test_the_temperature_is_named(digits, student):
    report = diagnose(
        digits.teacher, student, (digits.x,), Custom(10.0, 1.0), batches=1, verbose=0
    )
    assert "a temperature of 10," in report.findings[0].message


def test_a_loss_of_keras_keeps_it(digits, student):
    from keras.distillation import LogitsDistillation

    loss = LogitsDistillation(temperature=4.0, loss=keras.losses.KLDivergence())
    report = diagnose(digits.teacher, student, (digits.x,), loss, batches=1, verbose=0)
    assert not [f for f in report.findings if f.name == "t_squared_forgotten"]
