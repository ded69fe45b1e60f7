"""Losses of `keras.distillation` give in ours what they give by themselves."""

import json

import keras
import numpy as np
import pytest
from keras.distillation import FeatureDistillation, LogitsDistillation

from keras_dtkd import Distiller, Step
from keras_dtkd.losses import KD
from keras_dtkd.losses.keras_adapter import KerasDistillationLoss
from tests import oracles, tiny_models
from tests.logit_cases import CASE, assert_close, draw
from tests.tensors import numpy, tensor


def step(**kwargs):
    student, teacher = map(tensor, CASE[:2])
    return Step(student_logits=student, teacher_logits=teacher, **kwargs)


@pytest.mark.parametrize(
    "loss",
    [
        LogitsDistillation(loss=keras.losses.KLDivergence(), temperature=2.0),
        LogitsDistillation(temperature=3.0),
        LogitsDistillation(loss="mse"),
    ],
)
def test_a_loss_on_logits_gives_its_own_mean_for_each_sample(loss):
    expected = float(loss.compute_loss(*map(tensor, (CASE.teacher, CASE.student))))
    values = numpy(KerasDistillationLoss(loss).compute(step()))
    assert values.shape == (8,)
    assert_close(values, expected, 1e-6, abs(expected))


def test_with_keras_own_divergence_it_is_hintons_loss():
    loss = LogitsDistillation(loss=keras.losses.KLDivergence(), temperature=2.0)
    values = numpy(KerasDistillationLoss(loss).compute(step()))
    # Its probabilities are cut off at 1e-7.
    assert_close(values, oracles.kd(*CASE[:2], 2.0).mean(), 1e-3, 10.0)


def test_the_default_of_keras_is_no_divergence():
    """As the documentation warns: its values differ, and can be negative."""
    values = numpy(
        KerasDistillationLoss(LogitsDistillation(temperature=2.0)).compute(step())
    )
    assert abs(values[0] - oracles.kd(*CASE[:2], 2.0).mean()) > 1.0


def test_a_loss_on_features_gets_the_layers_that_it_names():
    loss = FeatureDistillation(
        loss="mse", teacher_layer_name="wide", student_layer_name="narrow"
    )
    foreign = KerasDistillationLoss(loss)
    assert (foreign.teacher_layers, foreign.student_layers) == (("wide",), ("narrow",))
    features = draw((8, 5), seed=1)
    student, teacher = (
        {name: tensor(z)} for name, z in zip(("narrow", "wide"), features, strict=False)
    )
    values = numpy(
        foreign.compute(step(student_features=student, teacher_features=teacher))
    )
    expected = ((features.student - features.teacher) ** 2).mean()
    assert_close(values, np.full(8, expected), 1e-5, expected)


def test_a_loss_for_each_output_gets_all_outputs():
    loss = LogitsDistillation(loss={"a": "mse", "b": None}, temperature=1.0)
    one, other = draw((8, 5), seed=1), draw((8, 3), seed=2)
    student = {"a": tensor(one.student), "b": tensor(other.student)}
    teacher = {"a": tensor(one.teacher), "b": tensor(other.teacher)}
    values = numpy(
        KerasDistillationLoss(loss).compute(
            step(student_outputs=student, teacher_outputs=teacher)
        )
    )
    assert_close(values, ((one.student - one.teacher) ** 2).mean(), 1e-5, 100.0)


def test_a_loss_that_does_not_fit_its_features_is_an_error():
    loss = FeatureDistillation(
        loss="mse", teacher_layer_name="wide", student_layer_name="narrow"
    )
    with pytest.raises(ValueError, match="list"):
        KerasDistillationLoss(loss).compute(
            step(
                student_features={"narrow": tensor(CASE.student)},
                teacher_features={"wide": [tensor(CASE.teacher)] * 2},
            )
        )


def test_sequences_get_the_mean_at_each_step():
    case = draw((2, 3, 5))
    student, teacher = map(tensor, case[:2])
    values = numpy(
        KerasDistillationLoss(LogitsDistillation(loss="mse", temperature=1.0)).compute(
            Step(student_logits=student, teacher_logits=teacher)
        )
    )
    assert values.shape == (2, 3)
    assert_close(values, ((case.student - case.teacher) ** 2).mean(), 1e-5, 100.0)


def test_it_is_called_as_the_loss_inside_and_weighs_as_ours_do():
    foreign = KerasDistillationLoss(LogitsDistillation(), weight=0.5, warmup_epochs=4)
    assert foreign.name == "logits_distillation"
    assert KerasDistillationLoss(LogitsDistillation(), name="keras").name == "keras"
    foreign.on_epoch_begin(2, 10)
    assert float(foreign.effective_weight) == pytest.approx(0.25)


def test_serializes():
    loss = LogitsDistillation(loss=keras.losses.KLDivergence(), temperature=2.0)
    foreign = KerasDistillationLoss(loss, weight=0.5, warmup_epochs=2, name="keras")
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(foreign)))
    loaded = keras.saving.deserialize_keras_object(config)
    assert (
        type(loaded) is KerasDistillationLoss
        and type(loaded.loss) is LogitsDistillation
    )
    assert (loaded.weight, loaded.warmup_epochs, loaded.name) == (0.5, 2, "keras")
    assert np.array_equal(numpy(loaded.compute(step())), numpy(foreign.compute(step())))


def test_ours_need_no_wrapping():
    """A `KD` inside would be reduced twice: `collect` takes it as it is."""
    loss = KD(2.0)
    inside = float(loss.compute_loss(*map(tensor, (CASE.teacher, CASE.student))))
    assert inside == pytest.approx(oracles.kd(*CASE[:2], 2.0).mean(), rel=1e-5)


@pytest.mark.invariant(number=10)
def test_features_of_unlike_shapes_are_refused_before_the_first_step():
    large, small = tiny_models.teacher(), tiny_models.student()
    loss = FeatureDistillation(
        loss="mse",
        teacher_layer_name=large.layers[1].name,
        student_layer_name=small.layers[0].name,
    )
    before = [numpy(w) for w in small.weights]
    with pytest.raises(
        ValueError, match=r"'feature_distillation'.*12\).*8\).*one shape"
    ):
        Distiller(large, small, loss).fit(*tiny_models.data(), verbose=0)
    for weight, value in zip(small.weights, before, strict=True):
        assert np.array_equal(numpy(weight), value)
