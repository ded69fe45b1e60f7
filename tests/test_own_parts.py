"""Losses and temperatures of the user's own: what breaks their contract is named."""

import keras
import pytest
from keras import ops

from keras_dtkd import Distiller
from keras_dtkd.losses import KD, DistillationLoss, KerasDistillationLoss
from keras_dtkd.temperatures import Temperature, TemperaturePair
from tests.tiny_models import CLASSES, data, numbers, same, student, teacher

pytestmark = pytest.mark.invariant(number=10)

X, Y = data(16)


class Squared(DistillationLoss):
    def __init__(self, reduce=None, **kwargs):
        super().__init__(**kwargs)
        self.reduction = reduce or (lambda value: ops.mean(value, axis=-1))

    def call(self, student_logits, teacher_logits, labels=None):
        return self.reduction((student_logits - teacher_logits) ** 2)


class Rule(Temperature):
    def __init__(self, make=None, **kwargs):
        super().__init__(**kwargs)
        self.make = make

    def call(self, student_logits, teacher_logits):
        return self.make(ops.max(ops.abs(teacher_logits), axis=-1, keepdims=True) + 1.0)


LOSSES = {
    "scalar": (ops.mean, r"shape \(\) beside logits .*axis=-1"),
    "one a class": (lambda v: ops.mean(v, axis=0), rf"shape \({CLASSES},\).*one value"),
    "a number": (lambda v: 1.0, r"shape \(\).*one value a sample"),
}
RULES = {
    "no last axis": (
        lambda t: TemperaturePair(t[..., 0], t, t[..., 0]),
        r"student's temperature has the shape \((16|None),\).*keepdims=True",
    ),
    "a number": (lambda t: 4.0, "must return a `TemperaturePair`.*4.0"),
    "two of three": (lambda t: (t, t), "must return a `TemperaturePair`"),
    "one a class": (
        lambda t: TemperaturePair(t, ops.repeat(t, CLASSES, axis=-1), 1.0),
        "teacher's temperature has the shape",
    ),
    "a weight with a last axis": (
        lambda t: TemperaturePair(t, t, t**2),
        r"the weight has the shape \((16|None), 1\).*`weight\[\.\.\., 0\]`",
    ),
}


def refused(loss, message):
    d = Distiller(teacher(), student(), loss)
    before = numbers(d.student)
    with pytest.raises((TypeError, ValueError), match=message):
        d.fit(X, Y, verbose=0)
    assert same(before, d.student)


@pytest.mark.parametrize("case", LOSSES)
def test_a_loss_that_gives_no_value_a_sample(case):
    reduce, message = LOSSES[case]
    refused(Squared(reduce), f"`Squared`.*{message}")


@pytest.mark.parametrize("case", RULES)
def test_a_temperature_that_gives_no_pair(case):
    make, message = RULES[case]
    refused(KD(Rule(make)), f"`Rule`.*{message}")


def test_what_keeps_the_contract_trains():
    Distiller(teacher(), student(), Squared()).fit(X, Y, verbose=0)
    rule = Rule(lambda t: TemperaturePair(t, 2.0, 1.0))
    Distiller(teacher(), student(), KD(rule)).fit(X, Y, verbose=0)


def test_a_class_that_is_not_registered_is_named_when_loading(tmp_path):
    d = Distiller(teacher(), student(), Squared())
    d.fit(X, Y, verbose=0)
    d.save(tmp_path / "d.keras")
    message = "class `Squared`, which Keras does not know.*{'Squared': Squared}"
    with pytest.raises(TypeError, match=message):
        keras.saving.load_model(tmp_path / "d.keras")
    keras.saving.load_model(tmp_path / "d.keras", custom_objects={"Squared": Squared})


class Projected:
    """A loss of no class of Keras's, with a layer of its own."""

    def __init__(self):
        self.projection = keras.layers.Dense(CLASSES)

    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        return ops.mean((self.projection(student_outputs) - teacher_outputs) ** 2)


@pytest.mark.graph
def test_a_layer_inside_a_loss_of_another_kind_is_trained():
    loss = Projected()
    d = Distiller(teacher(), student(), {"projected": loss})
    d.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    d.fit(X, Y, verbose=0)
    before = [ops.convert_to_numpy(w) + 0.0 for w in loss.projection.weights]
    assert any(w is loss.projection.kernel for w in d.trainable_variables)
    d.fit(X, Y, verbose=0)
    assert not same(before, numbers(loss.projection))


@pytest.mark.graph
def test_a_loss_of_keras_has_a_weight():
    logits_loss = keras.distillation.LogitsDistillation(
        loss=keras.losses.KLDivergence(), temperature=2.0
    )
    logs = []
    for weight in (1.0, 0.5):
        loss = KerasDistillationLoss(logits_loss, weight=weight)
        d = Distiller(teacher(), student(), loss, task_weight=0.0)
        d.compile(keras.optimizers.SGD(0.0))
        logs.append(d.fit(X, verbose=0).history)
    assert logs[1]["loss"][0] == pytest.approx(0.5 * logs[0]["loss"][0], rel=1e-5)
