"""Batches depend on the seed, the epoch and the index of an image alone."""

import keras
import numpy as np
import pytest

from keras_dtkd.core.boxes import from_xyxy, to_xyxy
from keras_dtkd.core.columns import get_columns
from keras_dtkd.datasets.detection import (
    DetectionDataset,
    DetectionSample,
    DetectionSplit,
    SampleSpecificAugmentation,
)
from tests.cell_detector import CellDetector, draw
from tests.tiny_models import close, numbers

X, Y = draw(10)
# Every image is recognized by its number.
NUMBERS = np.arange(10, dtype="float32")


def indices_of(x):
    """Which images of X these are."""
    return [int(np.abs(X - image).reshape(len(X), -1).sum(1).argmin()) for image in x]


def augment(**options):
    """A crop of each image with a box, as all boxes are at most 8x8 pixels here."""
    return SampleSpecificAugmentation(small_area=0, **options)


def epoch_of(dataset):
    """The batches of an epoch, read as `fit` does."""
    dataset.on_epoch_begin()
    batches = [dataset[i] for i in range(len(dataset))]
    dataset.on_epoch_end()
    return batches


def test_each_epoch_has_every_image_once_in_another_order():
    dataset, orders = DetectionDataset(X, Y, 4, seed=3), []
    assert len(dataset) == dataset.num_batches == 3
    for _ in range(3):
        batches = epoch_of(dataset)
        assert [len(x) for x, _ in batches] == [4, 4, 2]
        orders.append([i for x, _ in batches for i in indices_of(x)])
        for x, y in batches:
            for name, values in Y.items():
                np.testing.assert_array_equal(y[name], values[indices_of(x)])
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert len(set(map(tuple, orders))) == 3


def test_without_shuffling_the_order_is_that_of_the_data():
    batches = epoch_of(DetectionDataset(X, Y, 4, shuffle=False))
    np.testing.assert_array_equal(np.concatenate([x for x, _ in batches]), X)
    y = np.concatenate([y["boxes"] for _, y in batches])
    np.testing.assert_array_equal(y, Y["boxes"])


def test_a_split_brings_its_labels_scales_and_format():
    labels = {**Y, "boxes": from_xyxy(to_xyxy(Y["boxes"], "yxyx", ()), "xywh", ())}
    split = DetectionSplit(X, labels, np.full((10, 2), 0.5), range(10), (), "xywh")
    seen = []
    dataset = DetectionDataset(split, augment=lambda s, _: seen.append(s) or s)
    dataset[0]
    assert dataset.bounding_box_format == "xywh"
    assert all(s.scale == (0.5, 0.5) for s in seen)
    found = np.concatenate([s.boxes for s in seen])
    assert set((found[:, 2:] - found[:, :2]).ravel()) == {8.0}


def test_a_resumed_run_draws_the_same_as_an_uninterrupted_one():
    options = {"augment": augment(), "seed": 5}
    whole = DetectionDataset(X, Y, 4, **options)
    for _ in range(2):
        # What is looked at between epochs does not count.
        epoch_of(whole), whole[0]
        whole.on_epoch_end()
    resumed = DetectionDataset(X, Y, 4, **options, first_epoch=2)
    for (x, y), (other_x, other_y) in zip(
        epoch_of(whole), epoch_of(resumed), strict=True
    ):
        np.testing.assert_array_equal(x, other_x)
        np.testing.assert_array_equal(y["boxes"], other_y["boxes"])
    x, _ = DetectionDataset(X, Y, 4, **{**options, "seed": 6}, first_epoch=2)[0]
    assert not np.array_equal(x, resumed[0][0])


def test_the_augmentation_of_an_image_does_not_depend_on_its_batch():
    options = {"augment": augment(), "shuffle": False}
    large = np.concatenate(
        [x for x, _ in epoch_of(DetectionDataset(X, Y, 5, **options))]
    )
    small = np.concatenate(
        [x for x, _ in epoch_of(DetectionDataset(X, Y, 1, **options))]
    )
    np.testing.assert_array_equal(large, small)


def test_an_augmented_batch_is_padded_and_in_the_format_of_the_data():
    boxes = Y["boxes"].copy()
    is_box = Y["labels"] >= 0
    boxes[is_box] = boxes[is_box][:, [1, 0, 3, 2]] / 16
    seen = []

    def note(sample, rng):
        seen.append(sample)
        return DetectionSample(
            sample.image, sample.boxes[:1], sample.labels[:1], columns=sample.columns
        )

    dataset = DetectionDataset(
        *(X, {"boxes": boxes, "labels": Y["labels"]}, 10),
        augment=note,
        bounding_box_format="rel_xyxy",
        scales=np.full((10, 2), 0.5),
        shuffle=False,
    )
    _, y = dataset[0]
    for i, sample in enumerate(seen):
        assert sample.scale == (0.5, 0.5)
        expected = Y["boxes"][i][is_box[i]][:, [1, 0, 3, 2]]
        np.testing.assert_allclose(sample.boxes, expected, atol=1e-5)
        np.testing.assert_array_equal(sample.labels, Y["labels"][i][is_box[i]])
        if len(sample.boxes):
            np.testing.assert_allclose(y["boxes"][i, 0], boxes[i][is_box[i]][0])
        count = min(1, len(sample.boxes))
        assert (y["boxes"][i, count:] == -1).all()
        assert (y["labels"][i, count:] == -1).all() and y["labels"].shape == (10, 4)


def test_columns_follow_their_images(tmp_path):
    np.save(tmp_path / "adversarial.npy", X + 10)
    adversarial = np.load(tmp_path / "adversarial.npy", mmap_mode="r")
    columns = {"adversarial": adversarial, "number": NUMBERS}
    for options in ({}, {"augment": augment()}):
        dataset = DetectionDataset(X, Y, 4, columns=columns, seed=1, **options)
        for x, _ in epoch_of(dataset):
            images, rows = x["inputs"], get_columns(x)
            np.testing.assert_allclose(rows["adversarial"], images + 10, atol=1e-4)
            if not options:
                np.testing.assert_array_equal(rows["number"], indices_of(images))
    assert isinstance(dataset.columns["adversarial"], np.memmap)


def test_a_smaller_last_batch_can_be_left_out():
    dataset = DetectionDataset(X, Y, 4, drop_remainder=True)
    assert len(dataset) == 2
    assert all(len(x) == 4 for x, _ in epoch_of(dataset))


@pytest.mark.parametrize(
    "match, change",
    [
        ("`batch_size` must be an integer", {"batch_size": 0}),
        ("`bounding_box_format` must be one of", {"bounding_box_format": "yx"}),
        ("'score' has 3 rows, and there are 10", {"columns": {"score": [1, 2, 3]}}),
        ("'scales' has 2 rows", {"scales": np.ones((2, 2))}),
        (r"must have the shape \(9, max_boxes, 4\)", {"images": X[:9]}),
        ("labels must be a dict", {"labels": Y["boxes"]}),
    ],
)
def test_invalid_arguments_are_refused(match, change):
    with pytest.raises(ValueError, match=match):
        DetectionDataset(**{"images": X, "labels": Y, **change})


def compiled():
    model = CellDetector()
    model.compile(keras.optimizers.Adam(0.01))
    return model


def test_a_plain_model_takes_it_for_training_and_validation():
    train = DetectionDataset(X, Y, 4, seed=0)
    validation = DetectionDataset(X, Y, 4, shuffle=False)
    history = (
        compiled()
        .fit(train, validation_data=validation, epochs=2, shuffle=False, verbose=0)
        .history
    )
    assert np.isfinite(history["loss"]).all() and np.isfinite(history["val_loss"]).all()


def test_processes_read_what_one_thread_reads():
    options = {"augment": augment(), "seed": 0}
    processes = DetectionDataset(
        X, Y, 5, **options, workers=2, use_multiprocessing=True
    )
    models = compiled(), compiled()
    for model, data in zip(
        models, (processes, DetectionDataset(X, Y, 5, **options)), strict=True
    ):
        model.fit(data, epochs=2, shuffle=False, verbose=0)
    assert close(numbers(models[0]), numbers(models[1]), 0)
