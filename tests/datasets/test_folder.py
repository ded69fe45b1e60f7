"""Image folders: classes from folder names; the layout of Tiny ImageNet."""

import keras
import numpy as np
import pytest

from keras_dtkd.datasets import image_folder

pytest.importorskip("tensorflow")
pytest.importorskip("PIL")


def images(count, seed, size=64):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, size, size, 3), dtype="uint8")


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    keras.utils.save_img(path, image, scale=False)


def pixels(path, **options):
    """The first batches, without augmentation, with pixels from 0 to 255."""
    options = {"mean": 0.0, "std": 1 / 255, "batch_size": 50, "seed": 0, **options}
    datasets = image_folder(path, augment=False, **options)
    return [next(dataset.as_numpy_iterator()) for dataset in datasets]


@pytest.mark.parametrize("holdout", ["val", "test"])
def test_labels_are_indices_of_the_sorted_class_names(tmp_path, holdout):
    written = {}
    for split, seed in (("train", 0), (holdout, 1)):
        for i, (name, image) in enumerate(zip("bacb", images(4, seed), strict=True)):
            save(tmp_path / split / name / f"{i}.png", image)
            written[split, i] = image
    (x, y), (x_test, y_test) = pixels(tmp_path)
    np.testing.assert_array_equal(y_test, [0, 1, 1, 2])
    for image, i in zip(x_test, (1, 0, 3, 2), strict=True):
        np.testing.assert_allclose(image, written[holdout, i], atol=1e-3)
    np.testing.assert_array_equal(np.sort(y), [0, 1, 1, 2])
    b = np.sort(x[y == 1].sum(axis=(1, 2, 3)))
    expected = np.sort([written["train", i].sum(dtype="float64") for i in (0, 3)])
    np.testing.assert_allclose(b, expected, rtol=1e-5)


def test_the_layout_of_tiny_imagenet_is_read(tmp_path):
    for name, image in zip(("n02", "n01"), images(2, 0), strict=True):
        save(tmp_path / "train" / name / "images" / f"{name}_0.JPEG", image)
        (tmp_path / "train" / name / f"{name}_boxes.txt").write_text("")
    for i in range(12):
        save(tmp_path / f"val/images/val_{i}.JPEG", np.full((64, 64, 3), 20 * i))
    # Sorted neither by name nor by number.
    lines = [
        f"val_{i}.JPEG\tn0{1 + i % 2}\t0\t0\t9\t9" for i in (*range(6, 12), *range(6))
    ]
    (tmp_path / "val/val_annotations.txt").write_text("\n".join(lines) + "\n")
    (_, y), (x_test, y_test) = pixels(tmp_path)
    assert sorted(y) == [0, 1]
    numbers = np.rint(x_test.mean(axis=(1, 2, 3)) / 20).astype(int)
    assert sorted(numbers) == list(range(12))
    np.testing.assert_array_equal(y_test, numbers % 2)


def test_images_are_resized_and_normalized_like_imagenet(tmp_path):
    for split in ("train", "val"):
        save(tmp_path / split / "a" / "0.png", np.full((20, 30, 3), 51, "uint8"))
    train, test = image_folder(tmp_path, seed=0, image_size=16)
    x, _ = next(test.as_numpy_iterator())
    expected = (0.2 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225]
    assert x.shape == (1, 16, 16, 3)
    np.testing.assert_allclose(x, np.broadcast_to(expected, x.shape), atol=1e-5)
    assert train.element_spec[0].shape[1:] == (16, 16, 3)


def test_path_expands_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for split in ("train", "val"):
        save(tmp_path / "images" / split / "a" / "0.png", images(1, 0)[0])
    (x, _), (x_test, _) = pixels("~/images")
    np.testing.assert_array_equal(x, x_test)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/train does not exist"):
        image_folder(tmp_path)


def test_a_folder_without_images_is_named(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=f"No images found .*{tmp_path}/train"):
        image_folder(tmp_path)


def test_a_class_without_training_images_raises(tmp_path):
    save(tmp_path / "train/a/0.png", images(1, 0)[0])
    save(tmp_path / "val/b/0.png", images(1, 0)[0])
    with pytest.raises(ValueError, match=r"0.png has the class 'b'"):
        image_folder(tmp_path)


def save_two_classes(path):
    for split in ("train", "val"):
        for name in "ab":
            for i in range(3):
                save(path / split / name / f"{i}.png", images(1, i)[0])


@pytest.mark.parametrize("content", [b"", b"hello"])
def test_an_undecodable_image_is_named(content, tmp_path):
    save_two_classes(tmp_path)
    broken = tmp_path / "train" / "b" / "1.png"
    broken.write_bytes(content)
    with pytest.raises(ValueError, match=f"{broken} cannot be read or decoded"):
        image_folder(tmp_path)


@pytest.mark.parametrize("hidden", [".cache/0.png", "a/._0.png"])
def test_a_hidden_image_is_named(hidden, tmp_path):
    save_two_classes(tmp_path)
    save(tmp_path / "0.png", images(1, 0)[0])
    path = tmp_path / "train" / hidden
    path.parent.mkdir(exist_ok=True)
    (tmp_path / "0.png").rename(path)
    with pytest.raises(ValueError, match=f"{path} is hidden"):
        image_folder(tmp_path)


@pytest.mark.parametrize("size", [0, 64.0, (64, 64), None])
def test_image_size_must_be_a_positive_integer(size, tmp_path):
    save_two_classes(tmp_path)
    with pytest.raises(ValueError, match="`image_size` must be an integer"):
        image_folder(tmp_path, image_size=size)


def test_annotations_may_use_spaces_and_must_be_complete(tmp_path):
    save_two_classes(tmp_path)
    path = tmp_path / "val" / "val_annotations.txt"
    for name in "ab":
        for i in range(3):
            image = tmp_path / "val" / name / f"{i}.png"
            image.rename(tmp_path / "val" / f"{name}{i}.png")
        (tmp_path / "val" / name).rmdir()
    with pytest.raises(ValueError, match=f"or write the classes into {path}"):
        image_folder(tmp_path)
    lines = [f"{name}{i}.png {name} 0 0" for name in "ab" for i in range(3)]
    path.write_text("\n\n".join(lines))
    _, (_, y) = pixels(tmp_path)
    np.testing.assert_array_equal(y, [0, 0, 0, 1, 1, 1])
    path.write_text("\n".join([*lines[:-1], "b2.png"]))
    with pytest.raises(ValueError, match="b2.png has the class None"):
        image_folder(tmp_path)
