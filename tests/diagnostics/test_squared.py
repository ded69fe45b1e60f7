"""T² is missed where it is missing, and nowhere else."""

import keras
import pytest
from keras import ops

from keras_dtkd import diagnose, losses
from keras_dtkd.functional.divergences import kl, reverse_kl
from keras_dtkd.functional.statistics import soft_log_probs
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
            soft_log_probs(teacher_logits, self.at),
            soft_log_probs(student_logits, self.at),
        )


class Obeying(Custom):
    """Softens by the temperature that it says it has."""

    def __init__(self, temperature, power, factor=1.0, **kwargs):
        super().__init__(temperature, factor, temperature, **kwargs)
        self.power = power

    def call(self, student_logits, teacher_logits, labels=None):
        t = float(self.temperature)
        value = self.divergence(
            soft_log_probs(teacher_logits, t), soft_log_probs(student_logits, t)
        )
        return self.factor * t**self.power * value


class WithLabels(Custom):
    """And the labels' cross-entropy."""

    needs_labels = True

    def call(self, student_logits, teacher_logits, labels=None):
        task = keras.losses.sparse_categorical_crossentropy(
            labels, student_logits, from_logits=True
        )
        return task + super().call(student_logits, teacher_logits)


class Squares(DistillationLoss):
    def call(self, student_logits, teacher_logits, labels=None):
        return 0.001 * ops.mean((student_logits - teacher_logits) ** 2, axis=-1)


def own(loss, **kwargs):
    """A loss of ours as a user's class."""
    return type(loss.__name__ + "OfMine", (loss,), {})(**kwargs)


FORGETFUL = {
    "undeclared": Custom(4.0, 1.0),
    "high": Custom(10.0, 1.0),
    "higher": Custom(40.0, 1.0),
    "reverse": Custom(4.0, 1.0, divergence=reverse_kl),
    "as a number": Custom(3.0, 1.0, declared=3.0),
    "as a rule": Custom(5.0, 1.0, declared=Constant(5.0)),
    "by a factor too": Obeying(4.0, 0, 0.1),
    "by a rule that it obeys": Obeying(Constant(4.0), 0, 0.3),
    "reverse and by a factor too": Obeying(4.0, 0, 0.1, divergence=reverse_kl),
    "beside the labels": WithLabels(4.0, 1.0),
}
# A factor that is meant, or T² forgotten: the first of them said its temperature.
DOUBTFUL = {
    "declared": (Custom(4.0, 0.1, declared=4.0), "warning"),
    "undeclared": (Custom(4.0, 0.1), "note"),
    "half": (Custom(4.0, 0.5), "note"),
}
SOUND = {
    "squared": Custom(4.0, 16.0),
    "squared and declared": Custom(4.0, 16.0, declared=4.0),
    "without temperature": Custom(1.0, 1.0),
    "made up for by its weight": Custom(4.0, 1.0, weight=16.0),
    "another loss": Custom(1.0, 1.0, divergence=reverse_kl),
    "our own": KD(weight=1 / 16),
    "a small factor that is meant": Obeying(4.0, 2, 0.03),
    "beside the labels and squared": WithLabels(4.0, 16.0),
    "squares": Squares(),
    "like ours": own(losses.GeneralizedJSD, temperature=2.0, weight=0.05),
    "like DKD": own(losses.DKD, temperature=4.0, weight=0.001),
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


@pytest.mark.parametrize("name", DOUBTFUL)
def test_a_small_factor_is_told_and_may_be_meant(digits, student, name):
    loss, severity = DOUBTFUL[name]
    report = diagnose(
        digits.teacher, student, (digits.x, digits.y), loss, batches=1, verbose=0
    )
    (told,) = (f for f in report.findings if f.name == "t_squared_forgotten")
    assert told.severity == severity and "this is no fault" in told.message
    assert report.healthy == (severity == "note")


def test_temperatures_are_left_as_they_were(digits, student):
    number, rule = Obeying(4, 0), Obeying(Constant(4.0), 2)
    losses = {"number": number, "rule": rule}
    diagnose(digits.teacher, student, (digits.x,), losses, batches=1, verbose=0)
    assert number.temperature == 4 and isinstance(number.temperature, int)
    assert rule.temperature.temperature == 4.0
    assert (
        float(ops.convert_to_numpy(rule.temperature.hyperparameter("temperature")))
        == 4.0
    )


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
