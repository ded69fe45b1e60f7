"""Pairs of KerasHub's detectors, as they are, with random weights."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller, backend, diagnose
from keras_dtkd.callbacks import CocoAP, StudentCheckpoint
from keras_dtkd.core.arrays import take_rows, to_numpy, to_tensors
from keras_dtkd.core.detectors import check_detector_labels
from keras_dtkd.losses import DenseBoxKD, DenseClassKD, FitNet
from keras_dtkd.teachers.forward import compile_on_jax
from tests.hub_detectors import build_dfine, build_retinanet, load_images, make_images
from tests.tiny_models import numbers

keras_hub = pytest.importorskip("keras_hub", reason="KerasHub is not installed")

X, Y = make_images()
# Cells of an eighth of the image and more.
SMALL_ANCHORS = {"size": 64, "anchor_size": 1.0}
BATCH = {"batch_size": 2, "verbose": 0}
OPTIONS = {**BATCH, "shuffle": False}


def dense_losses():
    return [DenseClassKD(), DenseBoxKD(threshold=0.4, distance="giou")]


@pytest.fixture(scope="module")
def teacher():
    return build_retinanet(0, width=32)


@pytest.fixture(scope="module")
def photographs():
    return load_images()


@pytest.fixture(scope="module")
def trained(photographs, tmp_path_factory):
    """A Distiller after an epoch, its logs and the file of its best student."""
    path = str(tmp_path_factory.mktemp("detector") / "best.keras")
    models = (build_retinanet(i, width=32 - 16 * i, **SMALL_ANCHORS) for i in (0, 1))
    d = Distiller(*models, dense_losses())
    callbacks = [StudentCheckpoint(path, monitor="val_loss", save_best_only=True)]
    options = {"validation_data": photographs, "callbacks": callbacks, **OPTIONS}
    return d, d.fit(*photographs, **options).history, path


@pytest.mark.graph
def test_a_pair_of_retinanets_trains_by_classes_and_boxes(trained, photographs):
    d, logs, _ = trained
    assert {"dense_class_kd", "dense_box_kd", "task_loss", "val_loss"} <= set(logs)
    assert all(np.isfinite(values).all() for values in logs.values())
    assert min(logs["dense_class_kd"] + logs["dense_box_kd"]) > 0
    assert logs["loss"][0] == pytest.approx(
        logs["task_loss"][0] + logs["dense_class_kd"][0] + logs["dense_box_kd"][0],
        rel=1e-5,
    )
    results = d.evaluate(*photographs, return_dict=True, **BATCH)
    assert results["loss"] == pytest.approx(logs["val_loss"][0], rel=1e-5)


def test_the_task_loss_is_the_students_own(trained, photographs):
    d, _, _ = trained
    alone = build_retinanet(1, **SMALL_ANCHORS)
    alone.set_weights(d.student.get_weights())
    expected = alone.evaluate(*photographs, return_dict=True, **BATCH)
    d.evaluate_distillation = True
    results = d.evaluate(*photographs, return_dict=True, **BATCH)
    d.evaluate_distillation = False
    assert results["task_loss"] == pytest.approx(expected["loss"], rel=1e-6)
    assert results["dense_class_kd"] > 0


def test_average_precision_of_images_that_batches_do_not_divide():
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    ap = CocoAP(X[:3], take_rows(Y, slice(3)), batch_size=2)
    logs = build_retinanet(0).fit(X, Y, callbacks=[ap], **OPTIONS).history
    assert 0 <= logs["val_ap"][0] <= 1


@pytest.mark.single_backend
def test_the_students_file_needs_no_keras_dtkd_and_predicts_the_same_boxes(
    trained, photographs, tmp_path
):
    d, _, path = trained
    x = photographs[0]
    outputs = {name: to_numpy(value) for name, value in d(x).items()}
    boxes = d.student.decode_predictions(to_tensors(outputs), x)
    boxes = {f"decoded_{name}": to_numpy(value) for name, value in boxes.items()}
    np.savez(tmp_path / "boxes.npz", x=x, **outputs, **boxes)
    # Decoded from the same outputs: rounding exchanges boxes of one confidence.
    code = f"""
import sys, keras, keras_hub, numpy as np
saved = np.load({str(tmp_path / "boxes.npz")!r})
model = keras.saving.load_model({path!r})
outputs = {{name: saved[name] for name in ("cls_logits", "bbox_regression")}}
for name, value in model(saved["x"]).items():
    value = keras.ops.convert_to_numpy(value)
    np.testing.assert_allclose(outputs[name], value, rtol=1e-4, atol=1e-5)
    outputs[name] = keras.ops.convert_to_tensor(outputs[name])
for name, value in model.decode_predictions(outputs, saved["x"]).items():
    value = keras.ops.convert_to_numpy(value)
    np.testing.assert_allclose(saved["decoded_" + name], value, rtol=1e-5, atol=1e-4)
assert model.predict(saved["x"], verbose=0).keys() == {set(d.predict(x, verbose=0))!r}
assert "keras_dtkd" not in sys.modules
"""
    run = [sys.executable, "-W", "ignore", "-c", code]
    result = subprocess.run(run, capture_output=True, text=True, cwd=tmp_path)
    assert not result.returncode, result.stderr[-2000:]


@pytest.mark.single_backend
@pytest.mark.invariant(number=8)
def test_a_loaded_distiller_trains_on_as_if_it_had_not_stopped(
    trained, photographs, tmp_path
):
    d, _, _ = trained
    d.save(tmp_path / "d.keras")
    loaded = keras.saving.load_model(tmp_path / "d.keras")
    loaded.teacher = d.teacher
    x, y = photographs
    batch = x[:2], {name: values[:2] for name, values in y.items()}
    logs = [m.train_on_batch(*batch, return_dict=True) for m in (d, loaded)]
    assert logs[0] == logs[1]
    for one, other in zip(numbers(d), numbers(loaded), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.single_backend
@pytest.mark.invariant(number=3)
def test_images_of_weight_zero_teach_nothing_but_by_labels(teacher):
    """KerasHub's own loss leaves sample weights out."""
    d = Distiller(teacher, build_retinanet(1), dense_losses())
    logs = d.fit(X, Y, sample_weight=np.zeros(len(X)), **OPTIONS).history
    assert logs["dense_class_kd"] == logs["dense_box_kd"] == [0.0]
    assert logs["task_loss"][0] > 0


@pytest.mark.single_backend
def test_a_detector_learns_without_labels_and_from_batches(teacher):
    d = Distiller(teacher, build_retinanet(1), dense_losses())
    assert "task_loss" not in d.fit(X, **OPTIONS).history

    def batches():
        yield X[:2], {name: values[:2] for name, values in Y.items()}

    assert "task_loss" in d.fit(batches(), verbose=0).history


@pytest.mark.single_backend
def test_half_precision_detectors_train():
    models = [build_retinanet(i, dtype="mixed_bfloat16") for i in range(2)]
    logs = Distiller(*models, dense_losses()).fit(X, Y, **OPTIONS).history
    assert all(np.isfinite(values).all() for values in logs.values())


@pytest.mark.single_backend
def test_diagnose_finds_nothing_wrong_with_a_pair(teacher):
    report = diagnose(teacher, build_retinanet(1), (X, Y), dense_losses(), verbose=0)
    assert [issue.code for issue in report.issues] == ["not_measured"]
    assert "through the student's boxes" in report.issues[0].message


def compute_own_loss(student, x, y):
    """The student's own loss on a batch, in training, without the Distiller."""

    def compute(x):
        return student.compute_loss(x, to_tensors(y), student(x, training=True), None)

    with backend.no_grad():
        return float(compile_on_jax(student.variables, compute)(to_tensors(x)))


def test_a_pair_of_dfines_trains_by_features():
    x, y = load_images(count=2, size=32)
    # The one format that KerasHub's D-FINE computes its loss in; it has no padding.
    formats = {"source": "yxyx", "target": "rel_center_xywh"}
    boxes = keras.utils.bounding_boxes.convert_format(
        y["boxes"][:, :2], **formats, height=32, width=32
    )
    boxes = keras.ops.convert_to_numpy(boxes)
    batch = x, {"boxes": boxes, "labels": y["labels"][:, :2]}
    # Of one width: JAX compiles initializers for each shape.
    pair = build_dfine(0, num_queries=4), build_dfine(1, num_queries=3)
    d = Distiller(*pair, FitNet(["encoder_input_proj_conv_0"], weight=10.0))
    expected = compute_own_loss(pair[1], *batch)
    logs = d.train_on_batch(*batch, return_dict=True)
    assert logs["task_loss"] == pytest.approx(expected, rel=1e-6)
    assert logs["fit_net"] > 0 and "agreement" not in logs
    boxes = d.predict(batch[0], verbose=0)
    assert boxes["boxes"].shape == (2, 3, 4)


@pytest.mark.single_backend
@pytest.mark.parametrize("losses", [None, DenseClassKD(output="logits")])
def test_queries_are_refused_with_the_reason(losses):
    d = Distiller(build_dfine(0), build_dfine(1), losses)
    with pytest.raises(ValueError, match="are queries.*FitNet"):
        d.fit(X, Y, **OPTIONS)


@pytest.mark.single_backend
def test_the_default_loss_on_a_detector_names_the_outputs(teacher):
    with pytest.raises(ValueError, match="'bbox_regression', 'cls_logits'.*DenseClass"):
        Distiller(teacher, build_retinanet(1)).fit(X, Y, **OPTIONS)


def anchors(**options):
    options = {"num_scales": 3, "aspect_ratios": [0.5, 1.0, 2.0]} | options
    return keras_hub.layers.AnchorGenerator("yxyx", 3, 4, anchor_size=4, **options)


@pytest.mark.single_backend
@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_classes": 4}, "the teacher gives 4 classes and the student 3"),
        (
            {"anchor_generator": anchors(aspect_ratios=[1.0, 2.0, 3.0])},
            r"aspect_ratios is \[1.0, 2.0, 3.0\] in the teacher",
        ),
        ({"min_level": 4}, "min_level is 4 in the teacher and 3 in the student"),
    ],
    ids=["classes", "anchors", "levels"],
)
def test_detectors_that_do_not_fit_are_refused(options, message):
    d = Distiller(build_retinanet(0, **options), build_retinanet(1), DenseClassKD())
    with pytest.raises(ValueError, match=message):
        d.fit(X, Y, **OPTIONS)


@pytest.mark.single_backend
def test_boxes_of_another_encoding_are_refused(teacher):
    student = build_retinanet(1)
    student.label_encoder.box_variance = [0.1, 0.1, 0.2, 0.2]
    d = Distiller(teacher, student, DenseBoxKD())
    with pytest.raises(ValueError, match="box_variance is .* in the teacher"):
        d.fit(X, Y, **OPTIONS)


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
@pytest.mark.parametrize(
    "boxes, message",
    [
        (Y["boxes"] / 32, "boxes up to .*, which are no pixels, are given as 'yxyx'"),
        (Y["boxes"][..., [2, 3, 0, 1]], "ends before it begins, as 'yxyx'"),
        (Y["boxes"] + 20, r"leaves the image of \(32, 32\), as 'yxyx'"),
        (0 * Y["boxes"], r"has no area \(rows without a box are -1\)"),
        (Y["boxes"][:, :1], r"boxes \(4, 1, 4\), labels \(4, 2\)"),
    ],
)
def test_boxes_that_cannot_be_are_refused(teacher, boxes, message):
    d = Distiller(teacher, build_retinanet(1), DenseClassKD())
    with pytest.raises(ValueError, match=message):
        d.fit(X, {**Y, "boxes": boxes}, **OPTIONS)


@pytest.mark.single_backend
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_boxes_are_compared_with_the_size_of_images_in_both_layouts(data_format):
    maps = keras.layers.Conv2D(1, 1, data_format=data_format)
    model = keras.Sequential([maps])
    model.prediction_decoder, model.bounding_box_format = None, "xyxy"
    shape = (1, 3, 20, 40) if data_format == "channels_first" else (1, 20, 40, 3)
    labels = {"boxes": np.array([[[1.0, 2, 39, 19]]]), "labels": np.array([[0]])}
    check_detector_labels("fit", model, np.zeros(shape), labels)
    labels["boxes"] = labels["boxes"][..., [1, 0, 3, 2]]
    with pytest.raises(ValueError, match=r"leaves the image of \(20, 40\)"):
        check_detector_labels("fit", model, np.zeros(shape), labels)


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
def test_labels_that_the_detector_does_not_have_are_refused(teacher):
    d = Distiller(teacher, build_retinanet(1), DenseClassKD())
    with pytest.raises(ValueError, match="a label 3, and .* the classes 0 to 2"):
        d.fit(X, {**Y, "labels": Y["labels"] * 0 + 3}, **OPTIONS)
    with pytest.raises(
        ValueError, match=r"`boxes` and `labels`, .* \['boxes', 'classes'\]"
    ):
        d.fit(X, {"boxes": Y["boxes"], "classes": Y["labels"]}, **OPTIONS)


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
def test_pixels_are_refused_where_d_fine_takes_parts_of_the_image():
    d = Distiller(build_dfine(0), build_dfine(1), FitNet(["encoder_input_proj_conv_0"]))
    with pytest.raises(ValueError, match="which are pixels.*'rel_center_xywh'"):
        d.fit(X, Y, **OPTIONS)
    boxes, labels = np.full((4, 2, 4), 0.5), np.array([[0, -1]] * 4)
    with pytest.raises(ValueError, match="counts as objects"):
        d.fit(X, {"boxes": boxes, "labels": labels}, **OPTIONS)


@pytest.mark.single_backend
def test_box_outputs_that_are_missing_or_no_boxes_are_refused(teacher):
    for output, message in [("boxes", "no output 'boxes'"), ("cls_logits", "a box of")]:
        d = Distiller(teacher, build_retinanet(1), DenseBoxKD(output))
        with pytest.raises(ValueError, match=message):
            d.fit(X, Y, **OPTIONS)
