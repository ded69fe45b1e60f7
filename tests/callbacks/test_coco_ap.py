"""The log of COCO's average precision."""

import csv

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.callbacks import CocoAP, Resume, StudentCheckpoint
from keras_dtkd.core.boxes import from_xyxy, to_xyxy
from keras_dtkd.datasets.detection import DetectionDataset, DetectionSplit
from keras_dtkd.losses import BinaryKD
from keras_dtkd.metrics import coco_ap
from tests.cell_detector import CellDetector, draw
from tests.tiny_models import close, everything, numbers

pytest.importorskip("pycocotools", reason="pycocotools is not installed")
X, Y = draw()
X_VAL, Y_VAL = draw(10, seed=1)
NAMES = ["val_ap", "val_ap50", "val_ap75"]


def compiled(seed=0):
    model = CellDetector(seed)
    model.compile(keras.optimizers.Adam(0.001))
    return model


def distiller():
    return Distiller(compiled(7), compiled(), BinaryKD(weight=0.1))


def fit(*callbacks, model=None, epochs=3, verbose=0, **options):
    model = model or compiled()
    options = {"batch_size": 8, "shuffle": False, **options}
    callbacks = list(callbacks)
    history = model.fit(
        X, Y, epochs=epochs, verbose=verbose, callbacks=callbacks, **options
    )
    return model, history.history


def ap(**options):
    return CocoAP(X_VAL, Y_VAL, **{"batch_size": 4, **options})


def expected_ap(model):
    return coco_ap(model.predict(X_VAL, verbose=0), Y_VAL, "yxyx")


@pytest.mark.parametrize("as_dataset", [False, True])
def test_all_batches_have_one_size(as_dataset, monkeypatch):
    """KerasHub's detectors fail on others, on TensorFlow."""
    model = compiled()
    predict, sizes = model.predict, []

    def record(x, batch_size, **kwargs):
        sizes.append((len(x), batch_size))
        return predict(x, batch_size, **kwargs)

    monkeypatch.setattr(model, "predict", record)
    names, scales = range(len(X_VAL)), np.ones((len(X_VAL), 2))
    split = DetectionSplit(X_VAL, Y_VAL, scales, names, ("a", "b"), "yxyx")
    data = DetectionDataset(split, batch_size=4, shuffle=False)
    _, logs = fit(CocoAP(data, batch_size=4) if as_dataset else ap(), model=model)
    assert sizes and all(count % size == 0 and size == 4 for count, size in sizes)
    monkeypatch.undo()
    assert logs["val_ap"][-1] == pytest.approx(expected_ap(model)["ap"])


def test_the_logs_are_those_of_the_student_at_the_end_of_the_epoch():
    expected = []
    after = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: expected.append(expected_ap(model.student))
    )
    model = distiller()
    before = everything(model.teacher)
    _, logs = fit(ap(), after, model=model, epochs=6)
    assert set(NAMES) < set(logs)
    assert not {"val_ap_small", "val_ap_large"} & set(logs)
    for name in NAMES:
        assert logs[name] == [e[name.removeprefix("val_")] for e in expected]
    assert len(set(logs["val_ap"])) > 1 and max(logs["val_ap"]) > 0
    assert everything(model.teacher) == before


def test_training_is_the_same_without_the_callback():
    expected, _ = fit(model=distiller())
    model, _ = fit(ap(), model=distiller())
    assert close(numbers(model.student), numbers(expected.student), 1e-7)


@pytest.mark.single_backend
def test_a_plain_model_is_evaluated_itself():
    model, logs = fit(ap(by_area=True, class_names=["red", "green"], prefix="test_"))
    expected = coco_ap(
        model.predict(X_VAL, verbose=0), Y_VAL, class_names=["red", "green"]
    )
    logged = {n: v[-1] for n, v in logs.items() if n.startswith("test_")}
    assert logged == {f"test_{name}": value for name, value in expected.items()}
    assert "test_ap/green" in logged and logged["test_ap_large"] == -1


@pytest.mark.single_backend
def test_frequency_evaluates_every_few_epochs_and_the_last():
    has_log = []
    log = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: has_log.append("val_ap" in logs)
    )
    fit(ap(frequency=3), log, epochs=6)
    assert has_log == [True, False, False, True, False, True]


@pytest.mark.single_backend
def test_callbacks_after_it_read_the_logs(tmp_path):
    path = tmp_path / "best.keras"
    best = StudentCheckpoint(path, monitor="val_ap", mode="max", save_best_only=True)
    csv_path = tmp_path / "log.csv"
    model, logs = fit(
        ap(),
        best,
        keras.callbacks.CSVLogger(csv_path),
        keras.callbacks.EarlyStopping("val_ap", mode="max", patience=99),
        model=distiller(),
        epochs=5,
    )
    student = keras.saving.load_model(path)
    assert expected_ap(student)["ap"] == max(logs["val_ap"])
    with csv_path.open() as file:
        rows = [float(row["val_ap"]) for row in csv.DictReader(file)]
    assert rows == pytest.approx(logs["val_ap"])


def test_a_resumed_run_logs_what_an_uninterrupted_one_does(tmp_path):
    _, expected = fit(ap(), model=distiller(), epochs=4)
    fit(ap(), Resume(tmp_path), model=distiller(), epochs=2)
    resume = Resume(tmp_path)
    options = {"initial_epoch": resume.epoch, "epochs": 4}
    _, logs = fit(resume, ap(), model=distiller(), **options)
    for name in NAMES:
        assert logs[name] == expected[name][2:]


@pytest.mark.single_backend
def test_the_progress_bar_shows_the_log_and_verbose_the_predictions(capsys):
    fit(ap(), verbose=2, epochs=1)
    out = capsys.readouterr().out
    assert "val_ap50: " in out and "Average Precision" not in out
    fit(ap(verbose=1), epochs=1)
    out = capsys.readouterr().out
    assert "val_ap:\n" in out and "3/3" in out


@pytest.mark.single_backend
def test_what_is_wrong_is_an_error_before_the_first_step():
    class Unnamed(CellDetector):
        bounding_box_format = None

    class Raw(CellDetector):
        def decode(self, outputs):
            return outputs

    for cls, match in (
        (Unnamed, "has no `bounding_box_format`. Pass it: one of 'xyxy'"),
        (Raw, "predictions must be a dict of `boxes`, `confidence` and `labels`"),
    ):
        model = cls()
        model.compile("adam")
        before = numbers(model)
        with pytest.raises(ValueError, match=match):
            fit(ap(), model=model)
        assert close(numbers(model), before, 0)


@pytest.mark.single_backend
@pytest.mark.parametrize(
    "match, change",
    [
        ("`frequency` must be an integer", {"frequency": 0}),
        ("`batch_size` must be an integer", {"batch_size": 0}),
        ("`bounding_box_format` must be one of None", {"bounding_box_format": "yx"}),
        ("labels must be a dict of `boxes` and `labels`", {"y": np.zeros(10)}),
        (r"must have the shape \(7, max_boxes, 4\)", {"x": X_VAL[:7]}),
        (r"`scales` must .* \(10, 2\).*\(7, 2\)", {"scales": np.ones((7, 2))}),
        (r"`scales` must have the shape \(2,\) or", {"scales": np.ones(10)}),
    ],
)
def test_invalid_arguments_are_refused(match, change):
    with pytest.raises(ValueError, match=match):
        CocoAP(**{"x": X_VAL, "y": Y_VAL, **change})


class FixedDetector(keras.Model):
    """Finds one box in every image, in channels-first images of 64 by 128 pixels."""

    bounding_box_format = "yxyx"

    def __init__(self, data_format):
        super().__init__()
        self.pool = keras.layers.GlobalAveragePooling2D(data_format=data_format)
        self.dense = keras.layers.Dense(1)

    def call(self, images):
        return self.dense(self.pool(images))

    def predict(self, images, *args, **kwargs):
        count = len(images)
        return {
            "boxes": np.tile(np.float32([8, 16, 40, 100]), (count, 1, 1)),
            "labels": np.zeros((count, 1), int),
            "confidence": np.full((count, 1), 0.9),
        }


@pytest.mark.single_backend
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_relative_boxes_are_of_the_images_size_in_either_layout(data_format):
    shape = (64, 128, 3) if data_format == "channels_last" else (3, 64, 128)
    images = np.zeros((2, *shape), "float32")
    boxes = np.float32([8 / 64, 16 / 128, 40 / 64, 100 / 128])
    labels = {"boxes": np.tile(boxes, (2, 1, 1)), "labels": np.zeros((2, 1), int)}
    model = FixedDetector(data_format)
    model.compile("sgd", "mse")
    callback = CocoAP(images, labels, label_format="rel_yxyx", batch_size=2)
    logs = model.fit(images, np.zeros((2, 1)), verbose=0, callbacks=[callback]).history
    assert logs["val_ap"] == [pytest.approx(1.0)]


@pytest.mark.single_backend
def test_a_data_set_in_order_is_evaluated_with_its_labels():
    options = {"shuffle": False, "scales": np.full((10, 2), 0.1)}
    dataset = DetectionDataset(X_VAL, Y_VAL, 4, **options)
    _, expected = fit(ap(by_area=True, scales=options["scales"]))
    _, logs = fit(CocoAP(dataset, by_area=True))
    assert logs == expected and logs["val_ap_medium"][-1] > -1
    boxes = from_xyxy(to_xyxy(Y_VAL["boxes"], "yxyx", ()), "rel_center_xywh", (16, 16))
    labels = {**Y_VAL, "boxes": boxes}
    relative = DetectionDataset(
        X_VAL, labels, 4, bounding_box_format="rel_center_xywh", **options
    )
    _, logs = fit(CocoAP(relative, by_area=True))
    for name in expected:
        assert logs[name] == pytest.approx(expected[name], abs=1e-5), name
    split = DetectionSplit(X_VAL, Y_VAL, options["scales"], range(10), (), "yxyx")
    _, logs = fit(CocoAP(split, by_area=True))
    assert logs == expected
    for change in ({"shuffle": True}, {"columns": {"score": np.ones(10)}}):
        with pytest.raises(ValueError, match="a DetectionDataset holds the labels"):
            CocoAP(DetectionDataset(X_VAL, Y_VAL, 4, **{**options, **change}))
    with pytest.raises(ValueError, match="Received: `y`"):
        CocoAP(dataset, Y_VAL)
