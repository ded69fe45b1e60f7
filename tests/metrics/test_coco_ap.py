"""AP equals what pycocotools computes by hand from JSON files."""

import contextlib
import io
import json

import numpy as np
import pytest

from keras_dtkd.core.boxes import from_xyxy
from keras_dtkd.metrics import coco_ap

COCO = pytest.importorskip("pycocotools.coco").COCO
COCOeval = pytest.importorskip("pycocotools.cocoeval").COCOeval

pytestmark = pytest.mark.single_backend
IMAGES, SIZE = 12, (90, 120)


def draw(seed=0, classes=3, padding=4):
    """Corners and labels, and noisy detections of them, padded with -1."""
    rng = np.random.default_rng(seed)
    rows = 6 + padding
    boxes = np.full((IMAGES, rows, 4), -1.0)
    labels = np.full((IMAGES, rows), -1)
    found = {
        "boxes": np.full((IMAGES, 10, 4), -1.0),
        "labels": np.full((IMAGES, 10), -1),
        "confidence": np.full((IMAGES, 10), -1.0),
        "num_detections": np.zeros(IMAGES, "int32"),
    }
    for i in range(IMAGES):
        # The last image has no box.
        count = rng.integers(1, 7) if i < IMAGES - 1 else 0
        corner = rng.uniform(0, (70, 50), (count, 2))
        side = rng.uniform(4, 50, (count, 2))
        boxes[i, :count] = np.hstack([corner, corner + side])
        labels[i, :count] = rng.integers(0, classes, count)
        number = count + 2
        noisy = np.vstack([boxes[i, :count], [[1, 1, 30, 30], [5, 5, 80, 80]]])
        found["boxes"][i, :number] = noisy + rng.normal(0, 2, (number, 4))
        guesses = np.append(labels[i, :count], [0, 1])
        wrong = rng.uniform(size=number) < 0.2
        found["labels"][i, :number] = np.where(wrong, 2, guesses)
        found["confidence"][i, :number] = rng.uniform(0.1, 1, number)
        found["num_detections"][i] = number
    return {"boxes": boxes, "labels": labels}, found


def by_hand(folder, truth, found):
    """The statistics of pycocotools, read from files as its documentation does."""
    annotations, results = [], []
    for i in range(len(truth["boxes"])):
        for box, label in zip(truth["boxes"][i], truth["labels"][i], strict=True):
            if label < 0:
                continue
            x, y, right, bottom = map(float, box)
            annotation = {
                "id": len(annotations) + 1,
                "image_id": i,
                "category_id": int(label),
                "bbox": [x, y, right - x, bottom - y],
                "area": (right - x) * (bottom - y),
                "iscrowd": 0,
            }
            annotations.append(annotation)
        for j in range(found["num_detections"][i]):
            x, y, right, bottom = map(float, found["boxes"][i, j])
            result = {
                "image_id": i,
                "category_id": int(found["labels"][i, j]),
                "bbox": [x, y, right - x, bottom - y],
                "score": float(found["confidence"][i, j]),
            }
            results.append(result)
    dataset = {
        "images": [{"id": i} for i in range(len(truth["boxes"]))],
        "categories": [{"id": i, "name": str(i)} for i in range(4)],
        "annotations": annotations,
    }
    (folder / "truth.json").write_text(json.dumps(dataset))
    (folder / "found.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(folder / "truth.json"))
        found = coco.loadRes(str(folder / "found.json"))
        evaluation = COCOeval(coco, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("seed", range(3))
def test_equals_pycocotools_by_hand(tmp_path, seed, capsys):
    truth, found = draw(seed)
    evaluation = by_hand(tmp_path, truth, found)
    names = ["ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"]
    result = coco_ap(found, truth, "xyxy")
    assert list(result) == names
    for name, expected in zip(names, evaluation.stats, strict=False):
        assert result[name] == pytest.approx(expected, abs=1e-12), name
    assert 0.1 < result["ap"] < result["ap50"] < 1
    # Nothing is large here, and nothing is printed.
    assert result["ap_large"] == -1 and capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["yxyx", "xywh", "center_xywh", "rel_yxyx"])
def test_the_format_of_boxes_changes_nothing(name):
    truth, found = draw()
    expected = coco_ap(found, truth, "xyxy")
    for side in (truth, found):
        side["boxes"] = from_xyxy(side["boxes"], name, SIZE)
    result = coco_ap(found, truth, name, image_size=SIZE)
    assert result == pytest.approx(expected, abs=1e-4)
    truth, _ = draw()
    result = coco_ap(found, truth, name, label_format="xyxy", image_size=SIZE)
    assert result == pytest.approx(expected, abs=1e-4)


def test_more_rows_of_padding_change_nothing():
    few, many = (draw(padding=padding) for padding in (0, 9))
    few_labels, many_labels = few[0], many[0]
    for i, row in enumerate(few_labels["labels"]):
        count = (row >= 0).sum()
        many_labels["labels"][i] = -1
        many_labels["labels"][i, -count or 99 :] = row[:count]
        many_labels["boxes"][i, -count or 99 :] = few_labels["boxes"][i, :count]
    found = {key: value for key, value in few[1].items() if key != "num_detections"}
    assert coco_ap(found, many_labels, "xyxy") == coco_ap(few[1], few_labels, "xyxy")


def test_detections_after_their_number_are_ignored():
    truth, found = draw()
    expected = coco_ap(found, truth, "xyxy")
    for i, number in enumerate(found["num_detections"]):
        found["boxes"][i, number:] = truth["boxes"][i, 0]
        found["labels"][i, number:] = 0
        found["confidence"][i, number:] = 1
    assert coco_ap(found, truth, "xyxy") == expected


def test_perfect_detections_have_an_ap_of_one():
    truth, _ = draw()
    found = {**truth, "confidence": np.ones(truth["labels"].shape)}
    result = coco_ap(found, truth, "xyxy")
    assert result["ap"] == result["ap50"] == result["ap75"] == 1


def test_no_detections_have_an_ap_of_zero():
    truth, found = draw()
    found["num_detections"][:] = 0
    result = coco_ap(found, truth, "xyxy")
    assert result["ap"] == result["ap50"] == result["ap75"] == 0


def test_a_class_without_a_box_does_not_count(tmp_path):
    truth, found = draw(classes=2)
    assert set(truth["labels"].ravel()) == {-1, 0, 1} and (found["labels"] == 2).any()
    expected = by_hand(tmp_path, truth, found).stats[0]
    result = coco_ap(found, truth, "xyxy", class_names=["a", "b", "c"])
    assert result["ap"] == pytest.approx(expected, abs=1e-12)
    assert result["ap/c"] == -1
    assert result["ap"] == pytest.approx((result["ap/a"] + result["ap/b"]) / 2)


def test_labels_without_any_box_have_an_ap_of_minus_one():
    truth, found = draw()
    truth["labels"][:] = -1
    assert set(coco_ap(found, truth, "xyxy").values()) == {-1}


def test_areas_are_those_of_the_original_images(tmp_path):
    truth, found = draw()
    scales = np.stack([np.linspace(0.5, 2, IMAGES), np.full(IMAGES, 0.25)], -1)
    factors = scales[:, None, [1, 0, 1, 0]]
    original = [{**side, "boxes": side["boxes"] / factors} for side in (truth, found)]
    expected = by_hand(tmp_path, *original).stats
    result = coco_ap(found, truth, "xyxy", scales=scales)
    assert list(result.values()) == pytest.approx(list(expected[:6]), abs=1e-9)
    assert result["ap"] == pytest.approx(coco_ap(found, truth, "xyxy")["ap"])
    assert result["ap_large"] > 0


@pytest.mark.parametrize(
    "match, change",
    [
        ("predictions must be a dict", {"predictions": np.zeros((12, 4))}),
        ("must be a dict of `boxes`, `confidence`", {"predictions": {"boxes": []}}),
        ("labels must be a dict of `boxes` and `labels`", {"labels": [1]}),
        ("`bounding_box_format` must be one of", {"bounding_box_format": "yxxy"}),
        ("relative. Pass `image_size", {"bounding_box_format": "rel_xyxy"}),
        ("'rel_xywh' are relative. Pass `image_size", {"label_format": "rel_xywh"}),
        ("`label_format` must be one of", {"label_format": "yx"}),
        ("`scales` must have the shape", {"scales": np.ones((3, 2))}),
    ],
)
def test_invalid_arguments_are_refused(match, change):
    labels, predictions = draw()
    arguments = {"predictions": predictions, "labels": labels, **change}
    with pytest.raises(ValueError, match=match):
        coco_ap(**arguments)


def test_another_number_of_images_is_refused():
    labels, predictions = draw()
    fewer = {key: value[:5] for key, value in labels.items()}
    with pytest.raises(ValueError, match=r"must have the shape \(5, max_boxes, 4\)"):
        coco_ap(predictions, fewer)
