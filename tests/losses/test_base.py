"""What every distillation loss does: reduction, weight, warm-up, interop."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import Step
from keras_dtkd.losses import DTKD, KD, DistillationLoss
from keras_dtkd.losses.base import LossValues, snake_case
from tests import oracles
from tests.logit_cases import CASE, assert_close, draw
from tests.tensors import tensor
from tests.tiny_models import data, distiller

WEIGHTS = np.array([0.0, 1.0, 2.0, 0.5, 1.0, 1.0, 3.0, 0.0])


@keras.saving.register_keras_serializable("tests")
class Top(DistillationLoss):
    """The student's greatest logit: any values can be made with it."""

    def call(self, student_logits, teacher_logits, labels=None):
        return ops.max(student_logits, axis=-1)


def number(z):
    return float(ops.convert_to_numpy(z))


def sequences(layer):
    """Outputs `(2, 3, 4)` as a model gives them, and what its mask keeps."""
    kept = np.array([[1, 1, 0], [1, 0, 0]])
    if layer == "embedding":
        model = keras.Sequential(
            [keras.layers.Embedding(5, 3, mask_zero=True), keras.layers.Dense(4)]
        )
        return model(kept * [[2, 3, 4], [1, 2, 3]]), kept
    steps = kept[..., None] * (1.0 + np.arange(18).reshape(2, 3, 3))
    model = keras.Sequential([keras.layers.Masking(), keras.layers.Dense(4)])
    return model(tensor(steps)), kept


def test_the_mean_over_samples():
    values = np.arange(8.0)
    assert number(Top().reduce(tensor(values))) == pytest.approx(values.mean())


def test_a_weight_for_each_sequence_is_one_for_each_of_its_steps():
    values, weights = np.arange(12.0).reshape(3, 4), np.array([1.0, 0.0, 2.5])
    actual = Top().reduce(tensor(values), sample_weight=weights)
    assert number(actual) == pytest.approx((values * weights[:, None]).mean())


def test_steps_may_have_their_own_weights():
    values = np.arange(12.0).reshape(3, 4)
    weights = np.random.default_rng(0).uniform(size=(3, 4))
    actual = Top().reduce(tensor(values), sample_weight=weights)
    expected = (values * weights).sum() / weights.sum()
    assert number(actual) == pytest.approx(expected)


@pytest.mark.invariant(number=3)
@pytest.mark.parametrize("layer", ["embedding", "masking"])
def test_a_masked_step_counts_nowhere(layer):
    outputs, kept = sequences(layer)
    values = np.array([[1.0, 2.0, 100.0], [6.0, 1000.0, 1e4]])
    actual = Top().reduce(tensor(values), outputs)
    assert number(actual) == pytest.approx(values[kept == 1].mean())


@pytest.mark.invariant(number=3)
@pytest.mark.parametrize("weights", [[2.0, 1.0], [[2.0, 0.5, 9.0], [1.0, 9.0, 9.0]]])
def test_masks_and_weights_work_together(weights):
    outputs, kept = sequences("embedding")
    values = np.array([[1.0, 2.0, 100.0], [6.0, 1000.0, 1e4]])
    weights = np.array(weights)
    full = np.broadcast_to(weights.reshape(2, -1), (2, 3)) * kept
    # Weights of steps are a mask of many degrees, those of samples are not.
    positions = full if weights.ndim == 2 else kept
    actual = Top().reduce(tensor(values), outputs, weights)
    assert number(actual) == pytest.approx((values * full).sum() / positions.sum())


def test_the_weights_that_were_given_stay_as_they_are():
    outputs, _ = sequences("embedding")
    weights = tensor(np.ones((2, 3)))
    Top().reduce(tensor(np.ones((2, 3))), outputs, weights)
    assert (ops.convert_to_numpy(weights) == 1).all()


def test_a_loss_that_gives_one_value_a_sequence_has_dealt_with_the_mask():
    outputs, _ = sequences("embedding")
    assert number(Top().reduce(tensor([1.0, 3.0]), outputs)) == pytest.approx(2.0)


def test_values_of_half_precision_models_are_reduced_in_float32():
    # In float16 the sum would be infinite.
    outputs = ops.cast(tensor(np.full((64, 3), 6e4)), "float16")
    values = Top()(outputs, outputs)
    assert number(Top().reduce(values, outputs)) == pytest.approx(6e4, rel=1e-3)


def test_a_loss_that_needs_no_labels_need_not_take_them():
    class Distance(DistillationLoss):
        def call(self, student_logits, teacher_logits):
            return ops.mean((student_logits - teacher_logits) ** 2, axis=-1)

    logs = distiller(Distance()).fit(*data(16), verbose=0).history
    assert logs["distance"][0] > 0


def test_compute_hands_logits_and_labels_to_call():
    class Picked(DistillationLoss):
        def call(self, student_logits, teacher_logits, labels=None):
            return student_logits[:, 0] + 10 * teacher_logits[:, 0] + 100 * labels

    step = Step(
        y=tensor([3.0]), student_logits=tensor([[1.0]]), teacher_logits=tensor([[2.0]])
    )
    assert number(Picked().compute(step)[0]) == 321.0


@pytest.mark.parametrize(
    "warmup, epochs, factors",
    [
        (0, 10, {1: 1.0, 10: 1.0}),
        (20, 240, {1: 0.05, 5: 0.25, 20: 1.0, 21: 1.0, 240: 1.0}),
        (2.5, 10, {1: 0.4, 2: 0.8, 3: 1.0}),
        # A twelfth of the epochs: 20 of 240; of 6, less than the first.
        ("auto", 240, {1: 0.05, 19: 0.95, 20: 1.0}),
        ("auto", 30, {1: 0.4, 2: 0.8, 3: 1.0}),
        ("auto", 6, {1: 1.0}),
    ],
)
def test_warmup_grows_linearly_from_the_first_epoch(warmup, epochs, factors):
    loss = KD(weight=3.0, warmup_epochs=warmup)
    for epoch, factor in factors.items():
        loss.on_epoch_begin(epoch, epochs)
        assert number(loss.effective_weight) == pytest.approx(3.0 * factor)


def test_the_weight_may_change_at_any_time():
    loss = KD(weight=3.0, warmup_epochs=4)
    loss.on_epoch_begin(1, 10)
    loss.weight = 8.0
    assert number(loss.effective_weight) == pytest.approx(2.0)


def test_temperature_rules_are_found_for_the_logs():
    kd, dtkd = KD(), DTKD()
    assert kd.get_temperatures() == [kd.temperature]
    assert dtkd.get_temperatures() == [dtkd.temperature]
    assert Top().get_temperatures() == []


def test_a_loss_without_call_has_an_error_that_names_it():
    class Empty(DistillationLoss):
        pass

    with pytest.raises(NotImplementedError, match="`Empty` must override `call"):
        Empty()(tensor(CASE.student), tensor(CASE.teacher))


def test_names_are_the_classes_without_numbers():
    assert [KD().name, KD().name, DTKD().name, KD(name="soft").name] == [
        "kd",
        "kd",
        "dtkd",
        "soft",
    ]
    assert snake_case("FeatureDistillation") == "feature_distillation"


def test_compute_loss_is_weight_times_ramp_times_mean_under_the_mask():
    outputs, kept = sequences("embedding")
    teacher = tensor(draw((2, 3, 4)).teacher)
    loss = KD(weight=0.5, warmup_epochs=4)
    loss.on_epoch_begin(1, 10)
    student = np.asarray(ops.convert_to_numpy(outputs), "float64")
    values = oracles.kd(student, np.asarray(ops.convert_to_numpy(teacher), "float64"))
    expected = 0.5 * 0.25 * values[kept == 1].mean()
    assert_close(number(loss.compute_loss(teacher, outputs)), expected)


class AlwaysValues(DistillationLoss):
    def call(self, student_logits, teacher_logits):
        return LossValues(ops.mean((student_logits - teacher_logits) ** 2, axis=-1))


def test_inside_the_distiller_of_keras_a_loss_may_return_loss_values():
    student, teacher = tensor(np.zeros((2, 4))), tensor(np.ones((2, 4)))
    assert_close(number(AlwaysValues(weight=0.5).compute_loss(teacher, student)), 0.5)


@pytest.mark.parametrize(
    "value", ["Auto", None, -1, True, float("nan"), float("inf"), np.ones(2)]
)
def test_a_wrong_warmup_is_refused(value):
    message = "`KD`: `warmup_epochs` must be 'auto' or a number of at least 0. Received"
    with pytest.raises(ValueError, match=message):
        KD(warmup_epochs=value)


def test_inside_the_distiller_of_keras_other_classes_are_refused():
    with pytest.raises(ValueError, match=r"teacher .*2, 5.*student .*2, 4"):
        KD().validate_outputs(tensor(np.ones((2, 5))), tensor(np.ones((2, 4))))


def test_inside_the_distiller_of_keras_several_outputs_are_refused():
    two = [tensor(np.ones((2, 4)))] * 2
    with pytest.raises(ValueError, match="one output of logits"):
        KD().validate_outputs(two, two)
