"""BCCD from its one file, from the original repository's folders and archive."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from keras_dtkd.datasets import bccd
from keras_dtkd.datasets.detection import bccd as module

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
FILE = Path(__file__).parents[4] / "shared/data/bccd/bccd.npz"
SPLITS = {"train": ("a0", "c2"), "val": ("b1",), "test": ("d3",)}
# By name: corners and label. The second box of c2 has no area.
BOXES = {
    "a0": [((10, 20, 30, 60), "WBC"), ((1, 1, 64, 48), "RBC")],
    "b1": [((0, 0, 32, 24), "Platelets")],
    "c2": [((8, 8, 16, 16), "RBC"), ((5, 7, 5, 7), "RBC")],
    "d3": [],
}


def encode(name, size=(64, 48)):
    """A picture (width, height) of one gray, and a brighter right half."""
    gray = np.full(size[::-1], 40 * "abcd".index(name[0]), "uint8")
    gray[:, size[0] // 2 :] += 100
    buffer = io.BytesIO()
    Image.fromarray(np.stack([gray] * 3, -1)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def annotation(name):
    objects = "".join(
        f"<object><name>{label}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin>"
        f"<xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for (a, b, c, d), label in BOXES[name]
    )
    return f"<annotation><size/>{objects}</annotation>"


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """An archive with the layout of the repository, as GitHub packs it."""
    path = tmp_path_factory.mktemp("archive") / "repository.zip"
    with zipfile.ZipFile(path, "w") as file:
        root = "BCCD_Dataset-d272fb1/BCCD"
        for split, names in SPLITS.items():
            text = "\n".join(names) + "\n"
            file.writestr(f"{root}/ImageSets/Main/{split}.txt", text)
            for name in names:
                file.writestr(f"{root}/JPEGImages/{name}.jpg", encode(name))
                file.writestr(f"{root}/Annotations/{name}.xml", annotation(name))
    return path


@pytest.fixture(scope="module")
def folder(archive):
    with zipfile.ZipFile(archive) as file:
        file.extractall(archive.parent / "clone")
    return archive.parent / "clone"


def test_boxes_and_splits_of_the_repository(folder):
    data = bccd(folder, verbose=0, bounding_box_format="xyxy")
    assert data.train.images.shape == (2, 48, 64, 3)
    assert data.train.images.dtype == "float32"
    assert data.train.names == ("a0", "c2") and data.validation.names == ("b1",)
    assert data.class_names == ("Platelets", "RBC", "WBC")
    boxes, labels = data.train.labels["boxes"], data.train.labels["labels"]
    assert boxes.shape == (2, 2, 4) and boxes.dtype == "float32"
    np.testing.assert_array_equal(boxes[0], [[10, 20, 30, 60], [1, 1, 64, 48]])
    np.testing.assert_array_equal(labels, [[2, 1], [1, -1]])
    np.testing.assert_array_equal(data.test.labels["labels"], [[-1, -1]])


def test_a_box_without_an_area_is_left_out_and_its_row_is_padded(folder):
    data = bccd(folder, verbose=0, bounding_box_format="xyxy")
    np.testing.assert_array_equal(data.train.labels["boxes"][1, 1], [-1] * 4)
    np.testing.assert_array_equal(data.test.labels["boxes"], [[[-1] * 4] * 2])


@pytest.mark.parametrize(
    "name, expected",
    [
        ("xyxy", [5, 40, 15, 120]),
        ("yxyx", [40, 5, 120, 15]),
        ("xywh", [5, 40, 10, 80]),
        ("center_xywh", [10, 80, 10, 80]),
        ("rel_yxyx", [40 / 96, 5 / 32, 120 / 96, 15 / 32]),
    ],
)
def test_boxes_move_with_the_resized_pixels(folder, name, expected):
    data = bccd(folder, (96, 32), bounding_box_format=name, verbose=0)
    assert data.train.images.shape == (2, 96, 32, 3)
    np.testing.assert_allclose(data.train.labels["boxes"][0, 0], expected, rtol=1e-6)
    np.testing.assert_array_equal(data.train.scales, [[2, 0.5]] * 2)
    np.testing.assert_array_equal(data.train.labels["boxes"][1, 1], [-1] * 4)


def test_padding_keeps_the_shape_of_an_image(folder):
    options = {"bounding_box_format": "xyxy", "pad_to_aspect_ratio": True}
    data = bccd(folder, (60, 32), verbose=0, dtype="uint8", **options)
    images = data.train.images
    assert images.shape == (2, 60, 32, 3) and images.dtype == "uint8"
    assert (images[:, 24:] == 0).all() and (images[1, :24] > 60).all()
    np.testing.assert_array_equal(data.train.labels["boxes"][0, 0], [5, 10, 15, 30])
    np.testing.assert_array_equal(data.train.scales, [[0.5, 0.5]] * 2)


def test_bytes_are_the_float_pixels_times_255(folder):
    floats = bccd(folder, (20, 30), verbose=0).train.images
    as_bytes = bccd(folder, (20, 30), verbose=0, dtype="uint8").train.images
    np.testing.assert_allclose(floats * 255, as_bytes, atol=1e-4)


def test_without_a_path_the_archive_is_downloaded_and_unpacked(
    archive, folder, tmp_path, monkeypatch
):
    get_file = module.keras.utils.get_file
    monkeypatch.setattr(module, "ARCHIVE", archive.as_uri())
    monkeypatch.setattr(
        module.keras.utils,
        "get_file",
        lambda *args, **kwargs: get_file(*args, **kwargs, cache_dir=str(tmp_path)),
    )
    for _ in range(2):
        data, expected = bccd(verbose=0), bccd(folder, verbose=0)
        np.testing.assert_array_equal(data.train.images, expected.train.images)
        np.testing.assert_array_equal(data.test.names, expected.test.names)


def test_the_archive_is_that_of_the_pinned_commit():
    assert module.COMMIT in module.ARCHIVE and len(module.COMMIT) == 40


def test_the_one_file_and_the_folders_give_the_same(folder, tmp_path):
    names = sorted(BOXES)
    jpegs = [encode(name) for name in names]
    splits = [next(i for i, s in enumerate(SPLITS) if n in SPLITS[s]) for n in names]
    boxes = [box for n in names for box, _ in BOXES[n]]
    labels = [module.CLASS_NAMES.index(label) for n in names for _, label in BOXES[n]]
    np.savez(
        tmp_path / "bccd.npz",
        jpeg=np.frombuffer(b"".join(jpegs), "uint8"),
        size=np.array([len(jpeg) for jpeg in jpegs], "uint32"),
        name=names,
        count=np.array([len(BOXES[n]) for n in names], "uint16"),
        split=np.array(splits, "uint8"),
        box=np.array(boxes, "float32"),
        label=np.array(labels, "uint8"),
    )
    data, expected = (bccd(p, verbose=0) for p in (tmp_path / "bccd.npz", folder))
    for split in ("train", "validation", "test"):
        one, other = getattr(data, split), getattr(expected, split)
        assert one.names == other.names
        np.testing.assert_array_equal(one.images, other.images)
        for key in ("boxes", "labels"):
            np.testing.assert_array_equal(one.labels[key], other.labels[key])


@pytest.mark.parametrize(
    "match, options",
    [
        ("a0 has 2 boxes, and `max_boxes` is 1", {"max_boxes": 1}),
        ("`image_size` must be 2 integers", {"image_size": 64}),
        ("`bounding_box_format` must be one of 'xyxy'", {"bounding_box_format": "x"}),
        ("`dtype` must be one of 'float32', 'uint8'", {"dtype": "float64"}),
    ],
)
def test_invalid_arguments_are_refused(folder, match, options):
    with pytest.raises(ValueError, match=match):
        bccd(folder, verbose=0, **options)


def test_a_file_that_is_no_image_is_named(folder, tmp_path):
    import shutil

    shutil.copytree(folder, tmp_path / "copy")
    next((tmp_path / "copy").rglob("b1.jpg")).write_bytes(b"broken")
    with pytest.raises(ValueError, match="b1 cannot be read or decoded as an image"):
        bccd(tmp_path / "copy", verbose=0)


def test_a_folder_without_the_data_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="neither the file bccd.npz nor"):
        bccd(tmp_path)


@pytest.mark.skipif(not FILE.is_file(), reason="BCCD is not in ../shared/data")
def test_the_real_data_has_its_published_counts():
    data = bccd(FILE, (24, 32), verbose=0)
    counts = {
        "train": (205, [209, 2381, 214]),
        "validation": (87, [83, 967, 87]),
        "test": (72, [69, 805, 71]),
    }
    for name, (count, by_class) in counts.items():
        split = getattr(data, name)
        assert split.images.shape == (count, 24, 32, 3) and len(split) == count
        labels = split.labels["labels"]
        assert labels.shape == (count, 30)
        assert [(labels == k).sum() for k in range(3)] == by_class
        boxes = split.labels["boxes"][labels >= 0]
        assert (boxes[:, 2:] > boxes[:, :2]).all() and (boxes >= 0).all()
        assert (boxes <= (24, 32, 24, 32)).all()
