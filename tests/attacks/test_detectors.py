"""Attacks on a detector's own loss of its classes."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd.attacks import di2_fgsm, fgsm, input_diversity, pgd
from tests.pyramid_detector import CLASSES, SIDE, data, detector
from tests.tensors import numpy, tensor
from tests.tiny_models import numbers

X, Y = data(20)
EPSILON = 8 / 255
OPTIONS = {"steps": 5, "step_size": 2 / 255, "seed": 0}


@pytest.fixture(scope="module")
def trained():
    model = detector(8)
    x, y = data(64, seed=1)
    model.fit(x, y, batch_size=16, epochs=12, verbose=0)
    return model


def class_losses(model, x, y):
    """Of each image, float64: the cross-entropies of the cells by their boxes."""
    logits = numpy(model(x, training=False)["cls_logits"])
    side = int(logits.shape[1] ** 0.5)
    centers = (np.arange(side) + 0.5) * SIDE / side
    losses = []
    for z, boxes, labels in zip(logits, y["boxes"], y["labels"], strict=True):
        target = np.zeros((side, side, CLASSES))
        for (left, top, right, bottom), label in zip(boxes, labels, strict=True):
            if label < 0:
                continue
            rows = (centers > top) & (centers < bottom)
            columns = (centers > left) & (centers < right)
            target[np.ix_(rows, columns, [label])] = 1
        target = target.reshape(-1, CLASSES)
        losses.append((np.logaddexp(0, z) - target * z).sum() / max(target.sum(), 1))
    return np.array(losses)


@pytest.mark.parametrize("diversity", [0.0, 0.5])
def test_images_stay_in_range_and_ball_and_raise_the_loss_of_classes(
    trained, diversity
):
    before = numbers(trained)
    adversarial = di2_fgsm(trained, X, Y, EPSILON, diversity=diversity, **OPTIONS)
    assert adversarial.shape == X.shape and adversarial.dtype == np.float32
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    assert np.abs(adversarial - X).max() <= EPSILON + 1e-6
    raised = class_losses(trained, adversarial, Y) > class_losses(trained, X, Y)
    assert raised.mean() >= 0.95
    for one, other in zip(before, numbers(trained), strict=True):
        np.testing.assert_array_equal(one, other)


def test_boxes_have_no_part_in_the_gradient(trained):
    expected = fgsm(trained, X[:4], {n: v[:4] for n, v in Y.items()}, EPSILON)
    head = trained.get_layer("regression")
    before = head.get_weights()
    head.set_weights([100 * each for each in before])
    try:
        found = fgsm(trained, X[:4], {n: v[:4] for n, v in Y.items()}, EPSILON)
    finally:
        head.set_weights(before)
    np.testing.assert_array_equal(found, expected)


def test_one_step_follows_the_gradient_of_the_loss_of_classes(trained):
    image, y = X[:1], {name: value[:1] for name, value in Y.items()}
    found = fgsm(trained, image, y, 0.01, range=None) - image
    # Central differences at the pixels of one row.
    row, step, signs = 12, 1e-2, []
    for column in range(SIDE):
        moved = np.repeat(image, 2, axis=0)
        moved[0, row, column, 0] += step
        moved[1, row, column, 0] -= step
        twice = {name: np.repeat(value, 2, axis=0) for name, value in y.items()}
        ahead, behind = class_losses(trained, moved, twice)
        signs.append(np.sign(ahead - behind))
    assert (np.sign(found[0, row, :, 0]) == signs).mean() > 0.9


@pytest.mark.single_backend
def test_an_image_does_not_depend_on_its_batch(trained):
    options = {**OPTIONS, "diversity": 0.0}
    found = [
        di2_fgsm(trained, X[:7], {n: v[:7] for n, v in Y.items()}, 0.1, **options, **b)
        for b in ({}, {"batch_size": 3}, {"batch_size": 1})
    ]
    for other in found[1:]:
        # A gradient too close to 0 has no reliable sign.
        assert (np.abs(other - found[0]) < 1e-5).mean() > 0.99


@pytest.mark.single_backend
def test_boxes_move_with_their_pixels():
    rng = np.random.default_rng(0)
    images, boxes = np.zeros((30, 40, 60, 1), "float32"), np.zeros((30, 1, 4))
    for i in range(30):
        left, top = rng.integers(2, 30), rng.integers(2, 20)
        images[i, top : top + 16, left : left + 24] = 1.0
        boxes[i, 0] = left / 60, top / 40, (left + 24) / 60, (top + 16) / 40
    matrices = input_diversity.sample_resize_matrices(rng, images.shape, 0.7)
    resized = numpy(input_diversity.resize(tensor(images), *matrices))[..., 0]
    moved = numpy(input_diversity.move_boxes(tensor(boxes), *matrices))[:, 0]
    for image, (left, top, right, bottom) in zip(resized, moved, strict=True):
        rows, columns = (np.flatnonzero((image > 0.5).any(k)) for k in (1, 0))
        edges = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        expected = np.array([left * 60, top * 40, right * 60, bottom * 40])
        assert np.abs(edges - expected).max() <= 0.75
    assert (np.abs(moved - boxes[:, 0]) > 1e-3).any(1).mean() > 0.5


@pytest.mark.single_backend
def test_the_gradient_of_a_resized_image_is_that_of_moved_boxes(trained, monkeypatch):
    moved = di2_fgsm(trained, X, Y, EPSILON, diversity=1.0, **OPTIONS)
    monkeypatch.setattr(input_diversity, "move_boxes", lambda boxes, *matrices: boxes)
    stayed = di2_fgsm(trained, X, Y, EPSILON, diversity=1.0, **OPTIONS)
    assert (np.abs(moved - stayed) > 1e-4).mean() > 0.01


@pytest.mark.single_backend
def test_pgd_takes_the_start_of_highest_loss(trained):
    y = {name: value[:4] for name, value in Y.items()}
    options = {"steps": 2, "seed": 0}
    one = pgd(trained, X[:4], y, EPSILON, **options)
    best = pgd(trained, X[:4], y, EPSILON, restarts=3, **options)
    losses = [
        np.array(
            [
                float(
                    trained.compute_loss(
                        tensor(x[i : i + 1]),
                        {n: ops.convert_to_tensor(v[i : i + 1]) for n, v in y.items()},
                        trained(x[i : i + 1], training=False),
                    )
                )
                for i in range(4)
            ]
        )
        for x in (one, best)
    ]
    assert (losses[1] >= losses[0] - 1e-5).all()
    assert (losses[1] > losses[0] + 1e-5).any()


def classifier():
    layers = [keras.Input((SIDE, SIDE, 3)), keras.layers.Flatten()]
    return keras.Sequential([*layers, keras.layers.Dense(3)])


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"y": {"boxes": Y["boxes"]}}, "-1 where an image has fewer"),
        ({"y": {**Y, "labels": Y["labels"][:, :1]}}, "-1 where an image has fewer"),
        ({"y": {**Y, "boxes": Y["boxes"][..., :3]}}, "-1 where an image has fewer"),
        ({"y": {**Y, "boxes": Y["boxes"] / SIDE}}, "are no pixels.*'xyxy'"),
        ({"model": classifier()}, "no detector"),
        ({"output": "classes"}, "class outputs.*'cls_logits'"),
        ({"x": X[:, :20]}, "does not accept samples of shape"),
        ({"epsilon": 0.0}, "`epsilon` must be"),
    ],
)
def test_what_does_not_fit_is_refused(trained, options, match):
    given = {"model": trained, "x": X, "y": Y, "epsilon": EPSILON, **options}
    with pytest.raises(ValueError, match=match):
        di2_fgsm(**given)


@pytest.mark.single_backend
def test_a_loss_that_fails_is_one_error(trained, monkeypatch):
    def fail(self, x, y, y_pred, sample_weight=None, training=True):
        raise RuntimeError("no anchors")

    monkeypatch.setattr(type(trained), "compute_loss", fail)
    with pytest.raises(ValueError, match="own loss fails on the first image.*anchors"):
        di2_fgsm(trained, X, Y, EPSILON)
