"""BinaryKD equals the Bernoulli divergences of its labels, whatever the head."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import Distiller, Step
from keras_dtkd.core import logits
from keras_dtkd.losses import KD, BinaryKD
from keras_dtkd.temperatures import Dynamic, Temperature, TemperaturePair
from tests import oracles, oracles_pointwise, tiny_models
from tests.gradients import value_and_grad
from tests.logit_cases import (
    CASE,
    CASE_NAMES,
    CASES,
    STACKED,
    assert_close,
    assert_equals_oracle,
    draw,
)
from tests.tensors import numpy, tensor

# What a model of labels gives: one of several, one alone, each at every time step.
SHAPES = [(8, 5), (8, 1), (8, 2), (2, 3, 5), (2, 3, 1), (2, 2, 2)]


@keras.saving.register_keras_serializable("tests")
class WeightedByLabel(Temperature):
    """T = 1, with the weight of a row for its weight: shows how much it counts."""

    def call(self, student_logits, teacher_logits, sample_weight=None):
        one = ops.ones_like(student_logits[..., :1])
        weight = one[..., 0] if sample_weight is None else sample_weight
        return TemperaturePair(one, one, weight)


def results(loss, student=CASE.student, teacher=CASE.teacher, **further):
    # For a new shape JAX compiles every operation by itself, or all at once.
    return value_and_grad(
        lambda z: loss(z, tensor(teacher), **further),
        student,
        compiled=student.shape != CASE.student.shape,
    )


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("case", CASE_NAMES)
@pytest.mark.parametrize("tau", [1.0, 4.0])
def test_equals_the_formula(tau, case):
    assert_equals_oracle(
        BinaryKD(tau), lambda s, t: oracles_pointwise.binary_kd(s, t, tau), CASES[case]
    )


@pytest.mark.invariant(number=5)
def test_other_arguments_equal_the_formula():
    assert_equals_oracle(
        BinaryKD(2.0),
        lambda s, t: oracles_pointwise.binary_kd(s, t, 2.0),
        CASE,
    )


def test_loss_of_a_single_label_equals_kd_of_two_classes():
    case = draw((8, 1))
    pair = [np.concatenate([0 * z, z], axis=-1) for z in case[:2]]
    value, slopes = results(BinaryKD(3.0), *case[:2])
    expected, slope = results(KD(3.0), *pair)
    assert_close(value, expected)
    assert_close(slopes, slope[:, 1:])


def of_pairs(student, teacher, rule="exact"):
    """DTKD's first term, of each label as two classes."""
    pairs = [np.stack([-z / 2, z / 2], axis=-1) for z in (student, teacher)]
    return oracles.dtkd(*pairs, 4.0, 1.0, 0.0, rule).mean(-1)


@pytest.mark.parametrize("rule", ["exact", "std"])
def test_each_label_has_its_own_temperatures(rule):
    loss = BinaryKD(Dynamic(4.0, rule=rule))
    assert_equals_oracle(loss, lambda s, t: of_pairs(s, t, rule), CASE)


@pytest.mark.invariant(number=6)
@pytest.mark.parametrize("loss", [BinaryKD(1.0), BinaryKD(Dynamic())])
def test_all_is_finite_for_any_logits(loss):
    for case in (STACKED, draw((8, 1), 1e4, 1e4)):
        assert all(np.isfinite(array).all() for array in results(loss, *case[:2]))


@pytest.mark.invariant(number=6)
@pytest.mark.parametrize("mask", [-1e9, -np.inf])
@pytest.mark.parametrize("shape", [(8, 100), (8, 1)])
def test_all_is_finite_for_labels_masked_by_one_model(shape, mask):
    case = draw(shape)
    masked = [np.where(np.arange(shape[1]) > 4, z, mask) for z in case[:2]]
    for pair in ((masked[0], case.teacher), (case.student, masked[1]), masked):
        assert all(np.isfinite(array).all() for array in results(BinaryKD(), *pair))


@pytest.mark.invariant(number=3)
def test_a_batch_coupled_temperature_receives_the_weight_of_each_label():
    case, weights = draw((4, 3)), np.array([2.0, 0.0, 1.0, 0.5])
    student, teacher = case.student.copy(), case.teacher.copy()
    student[:, 1] = teacher[:, 1] = -1e9
    weighted, _ = results(
        BinaryKD(WeightedByLabel()), student, teacher, sample_weight=tensor(weights)
    )
    kept = [0, 2]
    expected = oracles_pointwise.binary_kd(student[:, kept], teacher[:, kept], 1.0)
    assert_close(weighted, weights * expected, 1e-5, np.maximum(1.0, expected))
    weighted, _ = results(
        BinaryKD(WeightedByLabel()),
        student[:, :1],
        teacher[:, :1],
        sample_weight=tensor(weights),
    )
    expected = oracles_pointwise.binary_kd(student[:, :1], teacher[:, :1], 1.0)
    assert_close(weighted, weights * expected, 1e-5, np.maximum(1.0, expected))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("head", ["sigmoid", "binary logits", "logits"])
def test_compute_accepts_pairs_and_logits(head, shape):
    case = draw(shape)
    outputs = [tensor(z) for z in case[:2]]
    if head == "sigmoid":
        outputs = [ops.sigmoid(z) for z in outputs]
    student, teacher = (logits.to_logits(z, head) for z in outputs)
    weights = 1.0 + np.arange(shape[0])
    step = Step(
        sample_weight=tensor(weights),
        student_outputs=outputs[0],
        student_logits=student,
        teacher_logits=teacher,
    )
    expected = oracles_pointwise.binary_kd(*case[:2])
    value = numpy(BinaryKD().compute(step))
    assert value.shape == shape[:-1]
    assert_close(value, expected, 1e-5, np.maximum(1.0, expected))
    expected = oracles_pointwise.binary_kd(*case[:2], 1.0)
    expected = (expected.T * weights).T
    value = numpy(BinaryKD(WeightedByLabel()).compute(step))
    assert_close(value, expected, 1e-5, np.maximum(1.0, expected))


def test_compute_finds_the_matching_output_of_several():
    case = draw((8, 5))
    outputs = {"labels": tensor(case.student), "size": tensor(np.ones((8, 1)))}
    step = Step(
        student_outputs=outputs,
        student_logits=logits.to_logits(outputs["labels"], "binary logits"),
        teacher_logits=logits.to_logits(tensor(case.teacher), "binary logits"),
    )
    expected = oracles_pointwise.binary_kd(*case[:2])
    assert_close(numpy(BinaryKD().compute(step)), expected, 1e-5, expected)


@pytest.mark.parametrize("head", [None, "sigmoid"])
@pytest.mark.parametrize("classes", [1, 4])
def test_any_multilabel_output_is_distilled_per_label(classes, head):
    """In a Distiller that was compiled with no loss at all."""
    x, _ = tiny_models.data(16)
    y = (x[:, :classes] > 0).astype("float32")
    teacher = tiny_models.teacher(head, classes, scale=1.0)
    student = tiny_models.student(head, classes)
    linear = tiny_models.student(None, classes)
    expected = oracles_pointwise.binary_kd(
        numpy(linear(x)), numpy(tiny_models.teacher(None, classes, scale=1.0)(x)), 2.0
    ).mean()
    distiller = Distiller(teacher, student, BinaryKD(2.0))
    history = distiller.fit(x, y, batch_size=16, epochs=2, verbose=0).history
    assert_close(history["binary_kd"][0], expected, 1e-5, max(1.0, expected))
    assert history["binary_kd"][1] < history["binary_kd"][0]
    assert isinstance(distiller.loss, keras.losses.BinaryCrossentropy)


@pytest.mark.invariant(number=3)
@pytest.mark.parametrize("classes", [1, 3])
def test_masked_time_steps_are_ignored(classes):
    x = np.array([[1, 2, 3, 0], [4, 5, 0, 0]])
    pair = [tiny_models.sequence(seed, classes=classes) for seed in (5, 1)]
    student, teacher = (numpy(model(x))[x > 0] for model in pair)
    distiller = Distiller(pair[1], pair[0], BinaryKD(2.0))
    history = distiller.fit(x, batch_size=2, verbose=0).history
    expected = oracles_pointwise.binary_kd(student, teacher, 2.0).mean()
    assert_close(history["binary_kd"][0], expected, 1e-6)


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_a_label_excluded_by_an_infinite_logit_is_finite(side):
    x, _ = tiny_models.data(16)
    models = {
        "student": tiny_models.student(None, 4),
        "teacher": tiny_models.teacher(None, 4),
    }
    model = models[side]
    mask = np.array([0.0, -np.inf, 0.0, 0.0], "float32")
    outputs = keras.layers.Lambda(lambda z: ops.add(z, mask))(model.outputs[0])
    models[side] = keras.Model(model.inputs, outputs)
    distiller = Distiller(models["teacher"], models["student"], BinaryKD())
    logs = distiller.fit(x, verbose=0).history
    assert np.isfinite(logs["binary_kd"]).all()
    assert all(np.isfinite(w).all() for w in models["student"].get_weights())
