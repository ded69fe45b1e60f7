"""The losses of dense detectors equal their formulas."""

import types

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import Step
from keras_dtkd.losses import DenseBoxKD, DenseClassKD
from tests import oracles_dense
from tests.gradients import value_and_grad
from tests.logit_cases import assert_close
from tests.tensors import numpy, tensor

RNG = np.random.default_rng(0)
# Images, anchors, classes. The last image has no anchor of which the teacher is sure.
STUDENT, TEACHER = RNG.normal(0, 2, (2, 3, 5, 4))
TEACHER[:, :2, 0] = 3.0
TEACHER[2] = -3.0 + RNG.normal(0, 0.5, (5, 4))
STUDENT_BOXES, TEACHER_BOXES = RNG.normal(0, 0.8, (2, 3, 5, 4))
WEIGHTS = np.array([0.0, 2.0, 1.0])


def make_step(student=STUDENT, teacher=TEACHER, boxes=None, weights=None):
    """A step of both outputs, whose class output is binary logits."""
    student, teacher = tensor(student), tensor(teacher)
    boxes = boxes or (STUDENT_BOXES, TEACHER_BOXES)
    decoder = types.SimpleNamespace(confidence_threshold=0.9)
    model = types.SimpleNamespace(prediction_decoder=decoder)
    return Step(
        student_outputs={"bbox_regression": tensor(boxes[0]), "cls_logits": student},
        teacher_outputs={"bbox_regression": tensor(boxes[1]), "cls_logits": teacher},
        student_logits=ops.stack([-0.5 * student, 0.5 * student], axis=-1),
        teacher_logits=ops.stack([-0.5 * teacher, 0.5 * teacher], axis=-1),
        sample_weight=None if weights is None else tensor(weights),
        teacher=types.SimpleNamespace(model=model, output_names=None),
    )


def compute_images(loss, step):
    """The loss of each image."""
    return ops.mean(loss.compute_with_temperatures(step).values, axis=-1)


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("tau, power", [(1.0, 1.0), (2.0, 0.5), (1.0, 0.0)])
def test_classes_equal_the_formula(tau, power):
    loss = DenseClassKD(tau, power)
    values, gradient = value_and_grad(
        lambda z: ops.mean(loss(z, tensor(TEACHER)), axis=-1), STUDENT
    )

    def oracle(z):
        return oracles_dense.dense_class_kd(z, TEACHER, tau, power)

    assert_close(values, oracle(STUDENT), 1e-5)
    assert_close(gradient, oracles_dense.numeric_gradient(oracle, STUDENT), 1e-5)
    # In a Distiller they are pairs of logits.
    assert_close(numpy(compute_images(loss, make_step())), values, 1e-5)


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("distance", oracles_dense.DISTANCES)
def test_boxes_equal_the_formula(distance):
    loss = DenseBoxKD(threshold=0.5, distance=distance)
    values, gradient = value_and_grad(
        lambda b: compute_images(loss, make_step(boxes=(b, TEACHER_BOXES))),
        STUDENT_BOXES,
    )

    def oracle(boxes):
        return oracles_dense.dense_box_kd(boxes, TEACHER_BOXES, TEACHER, distance)

    assert values[2] == 0
    assert_close(values, oracle(STUDENT_BOXES), 1e-5)
    assert_close(gradient, oracles_dense.numeric_gradient(oracle, STUDENT_BOXES), 2e-5)


@pytest.mark.invariant(number=2)
@pytest.mark.parametrize("distance", oracles_dense.DISTANCES)
def test_equal_boxes_have_no_loss_and_no_gradient(distance):
    loss = DenseBoxKD(threshold=0.0, distance=distance)
    values, gradient = value_and_grad(
        lambda b: compute_images(loss, make_step(boxes=(b, TEACHER_BOXES))),
        TEACHER_BOXES,
    )
    np.testing.assert_allclose(values, 0, atol=1e-6)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


@pytest.mark.invariant(number=6)
@pytest.mark.parametrize("scale", [0.0, 1e4])
@pytest.mark.parametrize("loss", [DenseClassKD(), DenseBoxKD(distance="giou")])
def test_extreme_outputs_have_finite_gradients(loss, scale):
    teacher = -scale * np.ones_like(TEACHER)
    results = value_and_grad(
        lambda z: compute_images(
            loss, make_step(z, teacher, boxes=(z, scale * TEACHER_BOXES))
        ),
        scale * STUDENT,
    )
    assert all(np.isfinite(result).all() for result in results)


@pytest.mark.single_backend
@pytest.mark.parametrize("loss", [DenseClassKD(), DenseBoxKD(threshold=0.5)])
def test_images_count_by_their_weights(loss):
    step = make_step(weights=WEIGHTS)
    values = loss.compute_with_temperatures(step).values
    outputs = step.student_outputs["cls_logits"]
    found = float(loss.reduce(values, outputs, step.sample_weight))
    images = numpy(compute_images(loss, make_step()))
    assert found == pytest.approx((WEIGHTS * images).mean(), rel=1e-5)


@pytest.mark.single_backend
def test_the_threshold_is_the_teachers_own_unless_given():
    def compute(**kwargs):
        return numpy(compute_images(DenseBoxKD(**kwargs), make_step()))

    np.testing.assert_array_equal(compute(), compute(threshold=0.9))
    assert (compute() != compute(threshold=0.2)).any()


@pytest.mark.single_backend
def test_giou_is_that_of_keras_for_decoded_boxes():
    anchors = np.array([[10.0, 20.0, 30.0, 28.0]] * 5)
    decoded = [
        keras.utils.bounding_boxes.decode_deltas_to_boxes(
            anchors=tensor(anchors),
            boxes_delta=tensor(deltas),
            anchor_format="xyxy",
            box_format="xyxy",
            encoded_format="center_xywh",
            variance=[1.0, 1.0, 1.0, 1.0],
        )
        for deltas in (STUDENT_BOXES[0], TEACHER_BOXES[0])
    ]
    expected = numpy(keras.utils.bounding_boxes.compute_iou(*decoded, "xyxy"))
    one, other = (numpy(boxes).astype("float64") for boxes in decoded)
    hull = np.concatenate(
        [np.minimum(one, other)[:, :2], np.maximum(one, other)[:, 2:]], axis=-1
    )
    hull_area, *areas = (
        (each[:, 2:] - each[:, :2]).prod(-1) for each in (hull, one, other)
    )
    iou = expected.diagonal()
    union = sum(areas) / (1 + iou)
    teacher = np.full_like(TEACHER, 9.0)
    step = make_step(teacher=teacher)
    found = numpy(DenseBoxKD(distance="giou").compute(step))[0]
    assert_close(1 - found, iou - (hull_area - union) / hull_area, 1e-4)


@pytest.mark.single_backend
@pytest.mark.parametrize(
    "cls, arguments",
    [
        (DenseClassKD, {"power": -1.0}),
        (DenseBoxKD, {"threshold": 1.5}),
        (DenseBoxKD, {"distance": "l2"}),
    ],
)
def test_wrong_arguments_are_refused(cls, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        cls(**arguments)


@pytest.mark.single_backend
def test_configurations_survive():
    losses = [
        DenseClassKD(2.0, power=0.5, output="classes"),
        DenseBoxKD("boxes", "classes", threshold=0.3, distance="giou", weight=2.0),
    ]
    for loss in losses:
        again = type(loss).from_config(loss.get_config())
        assert again.get_config() == loss.get_config()
        assert again.distilled_output == "classes"
