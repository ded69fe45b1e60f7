"""Losses on the pyramids of detectors: formulas, trainable parts, and training."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import Distiller, Step, features, losses
from keras_dtkd.callbacks import HyperparameterSchedule
from keras_dtkd.datasets import with_columns
from keras_dtkd.losses.box_masks import compute_box_masks, get_relative_boxes
from keras_dtkd.views import Stored, View
from tests import oracles_detection as oracles
from tests.gradients import differentiate, value_and_grad
from tests.logit_cases import assert_close
from tests.pyramid_detector import LEVELS, SIDE, data, detector
from tests.tensors import numpy, tensor
from tests.tiny_models import close, numbers, same

X, Y = data()
OPTIONS = {"batch_size": 4, "shuffle": False, "verbose": 0}
RNG = np.random.default_rng(0)
MAPS = RNG.normal(size=(2, 2, 6, 5, 4)).astype("float32").astype("float64")
# Two images of 60 by 50 pixels; of the second, one box is padding.
BOXES = np.array(
    [[[5, 10, 30, 40], [0, 0, 12, 20]], [[33.0, 2, 50, 60], [-1, -1, -1, -1]]]
)
CLASSES = np.array([[0, 2], [1, -1]])


def make_step(student, teacher, training=True, **kwargs):
    labels = {"boxes": tensor(BOXES), "labels": tensor(CLASSES, "int32")}
    images = ops.zeros((2, 60, 50, 3))
    both = {"student_features": {"f": student}, "teacher_features": {"f": teacher}}
    return Step(x=images, y=labels, training=training, **both, **kwargs)


def build(loss):
    """A loss with weights of its own, so that no part is 0."""
    loss.build_from_step(make_step(*map(tensor, MAPS), training=False))
    for number, variable in enumerate(loss.trainable_variables):
        rng = np.random.default_rng(number)
        variable.assign(0.4 * rng.normal(size=variable.shape))
    return loss


@pytest.mark.single_backend
def test_the_sum_of_a_sequence_is_over_channels_and_each_position_has_its_value():
    sides = np.random.default_rng(0).normal(size=(2, 2, 5, 4)).astype("float32")
    step = make_step(*map(tensor, sides))
    loss = losses.FeatureMSE(["f"], "sum")
    loss.build_from_step(step)
    expected = ((sides[0] - sides[1]) ** 2).sum(-1).mean(-1)
    np.testing.assert_allclose(numpy(loss.compute(step)), expected, rtol=1e-5)


def trainable(loss):
    return [numpy(variable) for variable in loss.trainable_variables]


def central_differences(function, array):
    gradient, step = np.zeros_like(array), 1e-5
    for index in np.ndindex(array.shape):
        moved = [array.copy(), array.copy()]
        moved[0][index] += step
        moved[1][index] -= step
        gradient[index] = (function(moved[0]) - function(moved[1])) / (2 * step)
    return gradient


def gradients_of_weights(loss, mean):
    """Of each trainable variable, by a function of no arguments."""
    found = []
    for variable in loss.trainable_variables:

        def evaluate(value, variable=variable):
            with keras.StatelessScope([(variable, value)]):
                return mean()

        found.append(
            differentiate(evaluate, compiled=False)(tensor(numpy(variable)))[1]
        )
    return found


def check(loss, oracle):
    """Value, and gradients of the feature and of each weight, are the oracle's.

    `oracle` is a function of the student's map and of the trainable weights.
    """
    student, teacher = MAPS
    value, gradient = value_and_grad(
        lambda s: ops.mean(loss.compute(make_step(s, tensor(teacher), False))), student
    )
    weights = trainable(loss)
    expected = oracle(student, weights).mean()
    assert_close(value, expected, 1e-5, expected)
    expected = central_differences(lambda s: oracle(s, weights).mean(), student)
    assert_close(gradient, expected, 2e-5, np.abs(expected).max())
    step = make_step(tensor(student), tensor(teacher), False)
    found = gradients_of_weights(loss, lambda: ops.mean(loss.compute(step)))
    assert len(found) == len(weights) > 0
    for number, each in enumerate(found):

        def with_weight(value, number=number):
            return [*weights[:number], value, *weights[number + 1 :]]

        expected = central_differences(
            lambda v: oracle(student, with_weight(v)).mean(),  # noqa: B023
            weights[number],
        )
        scale = max(np.abs(expected).max(), 1e-3)
        assert_close(each, expected, 5e-5, scale)


def project(student, weights):
    return student @ weights[0] + weights[1]


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_fgd_and_its_trained_blocks_are_the_formula(reduction):
    factors = 0.3, 0.2, 0.15, 0.1
    loss = losses.FGD(["f"], *factors, reduction=reduction, bounding_box_format="xyxy")
    build(loss)
    scale = np.array([50, 60, 50, 60])
    labels = [
        {"boxes": b / scale, "labels": c} for b, c in zip(BOXES, CLASSES, strict=True)
    ]

    def oracle(student, weights):
        return oracles.fgd(
            student,
            MAPS[1],
            None,
            labels,
            (weights[:8], weights[8:]),
            factors,
            total=reduction == "sum",
        )

    check(loss, oracle)


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_mgd_and_its_generator_are_the_formula(reduction):
    loss = build(losses.MGD(["f"], reduction=reduction))
    total = reduction == "sum"
    check(loss, lambda s, w: oracles.mgd(s, MAPS[1], None, w, total=total))


@pytest.mark.invariant(number=5)
def test_feature_mse_with_a_projector_is_the_formula():
    projector = keras.layers.Dense(4)
    loss = build(losses.FeatureMSE(["f"], "sum", projector=projector))
    check(loss, lambda s, w: oracles.feature_sum(project(s, w), MAPS[1], None))


@pytest.mark.invariant(number=5)
def test_adversarial_features_with_a_projector_are_the_formula():
    projector = keras.layers.Dense(4)
    loss = build(losses.AdversarialFeatures.published(["f"], projector=projector))
    assert (loss.view, loss.weight) == ("adversarial", 1e-5)
    check(loss, lambda s, w: oracles.feature_sum(project(s, w), MAPS[1], None))


def test_mgd_drops_positions_of_all_channels_anew_in_each_step():
    rng = np.random.default_rng(1)
    student, teacher = rng.normal(size=(2, 4, 16, 16, 3))
    ratio = 0.65
    loss = losses.MGD(["f"], mask_ratio=ratio, seed=0)
    loss.build_from_step(make_step(tensor(student), tensor(teacher), False))

    def run(training):
        def values(s):
            return loss.compute(make_step(s, tensor(teacher), training))

        return value_and_grad(values, student)

    masks = []
    for _ in range(2):
        value, gradient = run(training=True)
        is_kept = gradient != 0
        # A whole position, or nothing of it.
        assert (is_kept == is_kept[..., :1]).all()
        kept = is_kept[..., :1].astype(float)
        expected = oracles.mgd(student, teacher, None, trainable(loss), kept)
        assert_close(value, expected, 1e-5)
        assert kept.mean() == pytest.approx(1 - ratio, abs=0.05)
        masks.append(kept)
    assert (masks[0] != masks[1]).any()
    value, gradient = run(training=False)
    assert_close(value, oracles.mgd(student, teacher, None, trainable(loss)), 1e-5)
    loss.mask_ratio = 0.0
    assert_close(run(training=True)[0], value, 1e-6)


@pytest.mark.single_backend
def test_masks_are_those_of_the_boxes_cell_by_cell():
    rng = np.random.default_rng(0)
    corners = np.sort(rng.integers(0, 13, (20, 3, 2, 2)), axis=2).reshape(20, 3, 4)
    labels = rng.integers(-1, 2, (20, 3))
    labels[0], corners[1, 0], labels[1, 0] = -1, (0, 0, 12, 12), 0
    masks = compute_box_masks(tensor(corners / 12), tensor(labels >= 0, "bool"), 6, 4)
    for i in range(20):
        expected = oracles.box_masks(corners[i] / 12, labels[i], 6, 4)
        for mask, reference in zip(masks, expected, strict=True):
            np.testing.assert_allclose(numpy(mask)[i], reference, rtol=1e-6)
    # No objects, and nothing else.
    assert numpy(masks[0])[0].max() == 0 and numpy(masks[1])[0].min() > 0
    assert numpy(masks[1])[1].max() == 0


@pytest.mark.single_backend
@pytest.mark.parametrize("box_format", ["xyxy", "yxyx", "xywh", "rel_xyxy"])
def test_boxes_may_have_any_format(box_format):
    scale = {"height": 60, "width": 50}
    convert = keras.utils.bounding_boxes.convert_format
    boxes = convert(tensor(BOXES), "xyxy", box_format, **scale)
    found = []
    for values, name in ((BOXES, "xyxy"), (boxes, box_format)):
        loss = losses.FGD(["f"], bounding_box_format=name)
        step = make_step(*map(tensor, MAPS))
        step.y["boxes"] = tensor(values)
        loss.build_from_step(step)
        found.append(numpy(loss.compute(step)))
    np.testing.assert_allclose(*found, rtol=1e-5)


@pytest.mark.single_backend
def test_published_forms_are_those_of_the_authors():
    fgd = losses.FGD.published(["f"])
    factors = fgd.alpha, fgd.beta, fgd.gamma, fgd.lambda_, fgd.temperature
    assert (*factors, fgd.weight) == (1e-3, 5e-4, 5e-4, 5e-6, 0.5, 1.0)
    mgd = losses.MGD.published(["f"])
    assert (mgd.weight, mgd.mask_ratio) == (2e-5, 0.65)
    afa = losses.AdversarialFeatures.published(["f"])
    assert {fgd.reduction, mgd.reduction, afa.reduction} == {"sum"}


def all_losses():
    return [
        losses.FeatureMSE(LEVELS),
        losses.MGD(LEVELS, seed=1),
        losses.FGD(LEVELS),
        losses.AdversarialFeatures(LEVELS),
    ]


def make_distiller(which, view=None, **kwargs):
    student = detector(4, seed=1)
    return Distiller(detector(8), student, which, views=view, **kwargs)


def adversarial(dtype="float32"):
    moved = np.clip(X + 0.1 * np.sign(np.sin(100 * X)), 0, 1)
    return moved if dtype == "float32" else np.rint(255 * moved).astype("uint8")


@pytest.mark.invariant(number=8)
def test_all_train_are_saved_and_go_on_and_the_student_lacks_their_parts(tmp_path):
    x = with_columns(X, adversarial=adversarial())
    d = make_distiller(all_losses(), Stored("adversarial"), task_weight=0.0)
    count = len(d.student.variables)
    logs = d.fit(x, Y, **OPTIONS, epochs=3).history
    for loss in d.distillation_losses.values():
        assert logs[loss.name][-1] < logs[loss.name][0], loss.name
    started = numbers(d.distillation_losses["mgd"].generators[0])
    d.fit(x, Y, **OPTIONS, initial_epoch=3, epochs=4)
    assert not close(started, d.distillation_losses["mgd"].generators[0])
    assert len(d.student.variables) == count
    d.save(tmp_path / "d.keras")
    loaded = keras.saving.load_model(tmp_path / "d.keras")
    loaded.teacher = d.teacher
    for each in (d, loaded):
        each.fit(x, Y, **OPTIONS, initial_epoch=4, epochs=5)
    assert same(loaded, d)
    d.student.save(tmp_path / "s.keras")
    assert len(keras.saving.load_model(tmp_path / "s.keras").variables) == count


def test_statistics_after_a_step_on_adversarial_images_are_those_without_it():
    found = {}
    for name, view in (("without", None), ("with", Stored("adversarial"))):
        which = [losses.FeatureMSE(LEVELS)]
        if view is not None:
            which.append(losses.AdversarialFeatures(LEVELS, weight=5.0))
        d = make_distiller(which, view)
        before = numbers(d.student)
        x = with_columns(X, adversarial=adversarial())
        d.fit(x, Y, batch_size=8, verbose=0)
        assert not close(before, d.student)
        norm = d.student.get_layer("norm")
        moments = norm.moving_mean, norm.moving_variance
        found[name] = [*map(numpy, moments), numpy(d.student.get_layer("stem").kernel)]
    for one, other in zip(found["with"][:2], found["without"][:2], strict=True):
        np.testing.assert_array_equal(one, other)
    # It trained what is below all the same.
    assert np.abs(found["with"][2] - found["without"][2]).max() > 1e-6


def test_adversarial_features_compare_both_models_in_inference_mode_on_the_column():
    d = make_distiller(losses.AdversarialFeatures(LEVELS), Stored("adversarial"))
    column = adversarial()
    x = with_columns(X, adversarial=column)
    d.fit(x, Y, **OPTIONS)
    found = float(numpy(d.compute_losses(x, Y)["adversarial_features"]))
    maps = []
    for model in (d.student, d.teacher):
        pyramid = keras.Model(model.input, model.get_layer("fpn").output)
        levels = keras.tree.flatten(pyramid(column, training=False))
        maps.append([numpy(level) for level in levels])
    loss = d.distillation_losses["adversarial_features"]
    expected = 0.0
    for one, other, projector in zip(*maps, loss.projectors, strict=True):
        kernel, bias = map(numpy, projector.weights)
        expected += ((one @ kernel + bias - other) ** 2).mean()
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.single_backend
def test_levels_of_a_pyramid_are_listed_by_name():
    shapes = features(detector(4), X[:1], verbose=0)
    assert shapes["fpn[P3]"] == (8, 8, 4) and shapes["fpn[P4]"] == (4, 4, 4)
    assert "fpn" not in shapes


@pytest.mark.single_backend
def test_a_tensor_within_several_is_named_by_each_key():
    inputs = keras.Input((3,))
    first = keras.layers.Dense(2, name="first")(inputs)
    second = keras.layers.Dense(4, name="second")(first)
    inner = keras.Model(inputs, {"all": [first, second]}, name="inner")
    outputs = keras.layers.Dense(2, name="top")(inner(inputs)["all"][1])
    model = keras.Model(inputs, outputs)
    x = np.ones((1, 3), "float32")
    assert features(model, x, verbose=0)["inner[all][1]"] == (4,)
    d = Distiller(
        model, keras.models.clone_model(model), losses.FitNet(["inner[all][1]"])
    )
    logs = d.fit(np.ones((4, 3), "float32"), verbose=0).history
    assert np.isfinite(logs["fit_net"][0])


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
@pytest.mark.parametrize(
    ("loss", "match"),
    [
        (losses.FeatureMSE(["fpn[P5]"]), r"items \[P3\], \[P4\]"),
        (losses.FeatureMSE(["c3[0]"]), "has one tensor"),
        (losses.FeatureMSE(["fpn"]), "key or index"),
        (losses.FGD([("fpn[P3]", "cls_logits")]), "no layer 'cls_logits'"),
        (losses.FGD(["reshape"]), "must be maps"),
        (losses.MGD(["reshape"]), "must be maps"),
        (losses.AdversarialFeatures(LEVELS), "'adversarial'.*Views given"),
    ],
)
def test_features_that_do_not_fit_are_refused_before_the_first_step(loss, match):
    teacher, student = detector(8), detector(4, seed=1)
    for model in (teacher, student):
        next(each for each in model.layers if "reshape" in each.name).name = "reshape"
    before = numbers(student)
    with pytest.raises(ValueError, match=match):
        Distiller(teacher, student, loss).fit(X, Y, **OPTIONS)
    assert same(before, student)


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
def test_fgd_needs_boxes_their_format_and_no_view(monkeypatch):
    images = View(keras.layers.Identity(), name="same")
    d = make_distiller(losses.FGD(LEVELS, view="same"), images)
    with pytest.raises(ValueError, match="needs labels, and a view has none"):
        d.fit(X, Y, **OPTIONS)
    with pytest.raises(ValueError, match="needs labels, and the data has none"):
        make_distiller(losses.FGD(LEVELS)).fit(X, **OPTIONS)
    d = make_distiller(losses.FGD(LEVELS))
    monkeypatch.delattr(type(d.student), "bounding_box_format")
    with pytest.raises(ValueError, match="no `bounding_box_format`"):
        d.fit(X, Y, **OPTIONS)


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
@pytest.mark.parametrize(
    ("stated", "models", "scale", "match"),
    [
        ("rel_xyxy", "xyxy", 1, "which are pixels, are given as 'rel_xyxy'"),
        ("auto", "rel_xyxy", 1, "which are pixels, are given as 'rel_xyxy'"),
        ("xyxy", "xyxy", SIDE, "which are no pixels, are given as 'xyxy'"),
        ("xywh", "xyxy", 1, "leaves the image"),
    ],
)
def test_fgd_refuses_boxes_of_another_format(monkeypatch, stated, models, scale, match):
    d = make_distiller(losses.FGD(LEVELS, bounding_box_format=stated))
    monkeypatch.setattr(type(d.student), "bounding_box_format", models)
    before = numbers(d.student)
    is_box = Y["labels"][..., None] >= 0
    boxes = np.where(is_box, Y["boxes"] / scale, -1).astype("float32")
    with pytest.raises(ValueError, match=f"`fgd` .*{match}.*bounding_box_format="):
        d.fit(X, {"boxes": boxes, "labels": Y["labels"]}, **OPTIONS)
    assert same(before, d.student)


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
def test_adversarial_features_refuse_a_view_that_batch_norm_would_learn():
    loss = losses.AdversarialFeatures(LEVELS)
    for view in (Stored("adversarial", inference=False), View(keras.layers.Identity())):
        views = {"adversarial": view}
        d = make_distiller(loss, views)
        with pytest.raises(ValueError, match="inference=True"):
            d.fit(with_columns(X, adversarial=adversarial()), Y, **OPTIONS)
    view = View(keras.layers.Identity(), name="adversarial", inference=True)
    make_distiller(loss, view).fit(X, Y, **OPTIONS)


@pytest.mark.single_backend
@pytest.mark.parametrize("column, is_given", [("uint8", True), ("uint8", False)])
def test_a_column_of_another_range_than_the_images_is_a_warning(column, is_given):
    stored = (adversarial() * 255).astype(column)
    view = Stored("adversarial", range=(0, 1) if is_given else (0, 255))
    d = make_distiller(losses.AdversarialFeatures(LEVELS), view)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        d.fit(with_columns(X, adversarial=stored), Y, **OPTIONS)
    is_warned = any("have a range of" in str(w.message) for w in found)
    assert is_warned != is_given


@pytest.mark.single_backend
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_boxes_are_of_the_images_size_in_both_layouts(data_format):
    shape = (1, 3, 8, 4) if data_format == "channels_first" else (1, 8, 4, 3)
    labels = {"boxes": np.array([[[1.0, 2, 3, 6]]]), "labels": np.array([[0]])}
    step = Step(x=np.zeros(shape), y=labels)
    boxes, _ = get_relative_boxes("fgd", step, "xyxy", data_format)
    np.testing.assert_allclose(numpy(boxes), [[[0.25, 0.25, 0.75, 0.75]]])


@pytest.mark.single_backend
def test_a_weight_of_zero_in_the_last_phase_is_the_plain_base_loss():
    """The phases of IKD: two thirds of the epochs with it, the rest without."""
    found = []
    for has_adversarial in (True, False):
        which, view, callbacks = [losses.FeatureMSE(LEVELS)], None, []
        if has_adversarial:
            which.append(losses.AdversarialFeatures(LEVELS, weight=5.0))
            view = Stored("adversarial")
            name = "adversarial_features.weight"
            schedule = lambda epoch: 5.0 if epoch < 2 else 0.0  # noqa: E731
            callbacks = [HyperparameterSchedule(name, schedule)]
        d = make_distiller(which, view)
        x = with_columns(X, adversarial=adversarial())
        options = {**OPTIONS, "initial_epoch": 2, "epochs": 3}
        logs = d.fit(x, Y, **options, callbacks=callbacks).history
        found.append((d.student, logs["loss"][0]))
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-6)
    assert close(found[0][0], found[1][0], 1e-6)
