"""Folders in COCO's format: categories, crowds, empty boxes, and streaming."""

import json

import numpy as np
import pytest

from keras_dtkd.datasets import coco
from keras_dtkd.datasets.detection import DetectionDataset

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
pytest.importorskip("pycocotools", reason="pycocotools is not installed")

# Ids with gaps, in no order.
CATEGORIES = [{"id": 90, "name": "dog"}, {"id": 3, "name": "cat"}]
SIZES = {7: (40, 20), 2: (30, 60), 11: (20, 20)}  # Width and height.


def annotation(image, category, bbox, **fields):
    return {"image_id": image, "category_id": category, "bbox": bbox, **fields}


ANNOTATIONS = [
    annotation(2, 90, [10, 20, 5, 30], iscrowd=0),
    annotation(7, 3, [0, 0, 40, 20]),
    annotation(2, 3, [0, 10, 3.5, 2.25]),
    annotation(7, 90, [1, 1, 30, 10], iscrowd=1),
    annotation(7, 90, [5, 5, 0, 10]),
    # Beyond the edge of its image, partly and wholly.
    annotation(7, 90, [30, 10, 20, 20]),
    annotation(7, 90, [45, 10, 20, 5]),
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    images = []
    for image_id, (width, height) in SIZES.items():
        name = f"{image_id:04}.png"
        pixels = np.full((height, width, 3), 10 * image_id, "uint8")
        Image.fromarray(pixels).save(tmp_path / "images" / name)
        images.append(
            {"id": image_id, "file_name": name, "width": width, "height": height}
        )
    items = [{"id": i, **item} for i, item in enumerate(ANNOTATIONS, start=1)]
    write(tmp_path, {"images": images, "categories": CATEGORIES, "annotations": items})
    return tmp_path


def write(folder, content):
    (folder / "annotations.json").write_text(json.dumps(content))


def load(folder, image_size=(20, 30), **options):
    options = {"bounding_box_format": "xyxy", "verbose": 0, **options}
    return coco(folder / "images", folder / "annotations.json", image_size, **options)


def test_labels_are_numbered_by_category_id_and_names_are_kept(folder):
    split = load(folder)
    assert split.class_names == ("cat", "dog")
    assert split.names == ("0002.png", "0007.png", "0011.png")
    np.testing.assert_array_equal(split.labels["labels"], [[1, 0], [0, 1], [-1, -1]])


def test_boxes_move_with_the_pixels_and_are_clipped_to_their_image(folder):
    boxes = load(folder).labels["boxes"]
    # 30x60 pixels become 30x20, and 40x20 become 30x20.
    np.testing.assert_allclose(boxes[0, 0], [10, 20 / 3, 15, 50 / 3], rtol=1e-6)
    np.testing.assert_allclose(boxes[0, 1], [0, 10 / 3, 3.5, 12.25 / 3], rtol=1e-6)
    np.testing.assert_allclose(boxes[1], [[0, 0, 30, 20], [22.5, 10, 30, 20]])
    np.testing.assert_array_equal(boxes[2], [[-1] * 4] * 2)
    scales = load(folder).scales
    np.testing.assert_allclose(scales, [[1 / 3, 1], [1, 0.75], [1, 1.5]], rtol=1e-6)


def test_crowds_and_boxes_without_an_area_are_left_out(folder):
    counts = (load(folder).labels["labels"] >= 0).sum(1)
    assert counts.tolist() == [2, 2, 0]


def test_images_are_decoded_when_their_batch_is_due(folder):
    streamed, held = load(folder), load(folder, in_memory=True)
    assert held.images.shape == (3, 20, 30, 3)
    assert len(streamed.images) == 3 and not isinstance(streamed.images, np.ndarray)
    dataset = DetectionDataset(streamed.images, streamed.labels, 2, shuffle=False)
    x = np.concatenate([dataset[i][0] for i in range(len(dataset))])
    np.testing.assert_array_equal(x, held.images)
    np.testing.assert_allclose(x[:, 5, 5, 0] * 255, [20, 70, 110], atol=1e-4)
    np.testing.assert_array_equal(streamed.labels["boxes"], held.labels["boxes"])
    (folder / "images" / "0007.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match="0007.png cannot be read or decoded"):
        dataset[0]


def test_padding_keeps_the_shape_of_an_image(folder):
    split = load(folder, (20, 20), pad_to_aspect_ratio=True, in_memory=True)
    np.testing.assert_allclose(split.labels["boxes"][1, 0], [0, 0, 20, 10])
    assert (split.images[1, 10:] == 0).all() and (split.images[1, :10] > 0.2).all()
    assert (split.images[0, :, 10:] == 0).all()


@pytest.mark.parametrize(
    "match, options",
    [
        ("0002.png has 2 boxes, and `max_boxes` is 1", {"max_boxes": 1}),
        ("`image_size` must be 2 integers", {"image_size": 20}),
        ("pass `image_size=", {"image_size": None}),
    ],
)
def test_invalid_arguments_are_refused(folder, match, options):
    with pytest.raises(ValueError, match=match):
        load(folder, **options)


def test_what_is_missing_is_named(folder):
    content = json.loads((folder / "annotations.json").read_text())
    write(folder, {**content, "categories": CATEGORIES[:1]})
    with pytest.raises(ValueError, match=r"categories \[3\], which are not among"):
        load(folder)
    write(folder, {**content, "images": [], "annotations": []})
    with pytest.raises(ValueError, match="lists no images"):
        load(folder)
    write(folder, content)
    (folder / "images" / "0011.png").unlink()
    with pytest.raises(FileNotFoundError, match="1 of 3 images do not exist, such as"):
        load(folder)
    (folder / "annotations.json").unlink()
    with pytest.raises(FileNotFoundError, match="annotations.json does not exist"):
        load(folder)


@pytest.mark.parametrize("in_memory", [True, False])
def test_an_image_of_another_size_than_its_annotations_is_refused(folder, in_memory):
    image = Image.fromarray(np.zeros((20, 10, 3), "uint8"))
    image.save(folder / "images" / "0007.png")
    with pytest.raises(ValueError, match=r"0007.png has \(20, 10\).*for \(20, 40\)"):
        split = load(folder, in_memory=in_memory)
        [split.images[i] for i in range(len(split.images))]
