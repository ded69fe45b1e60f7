"""`fit` takes the batches of a DetectionDataset, on every backend."""

import random

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.callbacks import CocoAP, Resume
from keras_dtkd.core.boxes import pad_boxes
from keras_dtkd.datasets.detection import DetectionDataset, SampleSpecificAugmentation
from keras_dtkd.losses import BinaryKD
from tests.cell_detector import CellDetector, draw
from tests.hub_detectors import build_retinanet
from tests.tiny_models import close, numbers

X, Y = draw(10)


def augment():
    """A crop of each image with a box, as all boxes are of 8x8 pixels here."""
    return SampleSpecificAugmentation(small_area=0)


class Recorder(DetectionDataset):
    """Notes the number of each batch, and the sum of its images."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen = []

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        self.seen.append((index, float(x.sum())))
        return x, y


def compiled(seed=0):
    model = CellDetector(seed)
    model.compile(keras.optimizers.Adam(0.01))
    return model


def distiller():
    return Distiller(compiled(7), compiled(), BinaryKD(weight=0.1))


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("plain", [False, True])
def test_fit_gets_another_order_in_each_epoch(workers, plain):
    dataset = Recorder(X, Y, 4, augment=augment(), seed=2, workers=workers)
    model = compiled() if plain else distiller()
    model.fit(dataset, epochs=3, shuffle=False, verbose=0)
    assert dataset.epoch == 3
    expected = set()
    for epoch in range(3):
        fresh = Recorder(X, Y, 4, augment=augment(), seed=2, first_epoch=epoch)
        expected |= {(i, float(fresh[i][0].sum())) for i in range(3)}
    assert set(dataset.seen) == expected and len(expected) == 9


def test_a_run_that_is_resumed_ends_with_the_same_weights(tmp_path):
    def train(epochs, resume=None, seed=0):
        # What `fit` does with the global state must not matter.
        random.seed(seed)
        model = distiller()
        first = resume.epoch if resume else 0
        columns = {"adversarial": X}
        dataset = DetectionDataset(
            X, Y, 4, augment=augment(), columns=columns, first_epoch=first
        )
        callbacks = [resume] if resume else []
        options = {"initial_epoch": first, "callbacks": callbacks, "verbose": 0}
        model.fit(dataset, epochs=epochs, shuffle=False, **options)
        return model

    expected = train(4)
    train(2, Resume(tmp_path), seed=1)
    resumed = train(4, Resume(tmp_path), seed=2)
    assert close(numbers(resumed.student), numbers(expected.student), 0)


@pytest.mark.single_backend
def test_keras_hubs_detectors_are_distilled_from_it_and_evaluated():
    pytest.importorskip("keras_hub", reason="KerasHub is not installed")
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")

    rng = np.random.default_rng(0)
    x = rng.uniform(size=(6, 32, 32, 3)).astype("float32")
    # The last image has no box.
    boxes = np.array([[[2, 1, 31, 30], [-1] * 4]] * 5 + [[[-1] * 4] * 2], "float32")
    labels = np.array([[1, -1]] * 5 + [[-1, -1]])
    y = {"boxes": boxes, "labels": labels}
    options = {"columns": {"adversarial": x}, "drop_remainder": True}
    train = DetectionDataset(
        x, y, 2, augment=SampleSpecificAugmentation(small_area=30**2), **options
    )
    validation = DetectionDataset(x, y, 2, shuffle=False)
    model = Distiller(
        build_retinanet(0), build_retinanet(1), BinaryKD(output="cls_logits")
    )
    history = model.fit(
        train,
        validation_data=validation,
        epochs=2,
        shuffle=False,
        callbacks=[CocoAP(validation)],
        verbose=0,
    ).history
    assert train.epoch == 2
    for name in ("task_loss", "val_loss", "val_ap", "val_ap50"):
        assert np.isfinite(history[name]).all(), name
    assert 0 < history["task_loss"][-1] < history["task_loss"][0]


@pytest.mark.single_backend
def test_keras_hubs_own_fit_takes_it_as_a_tf_dataset():
    pytest.importorskip("keras_hub", reason="KerasHub is not installed")
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

    x = np.random.default_rng(0).uniform(size=(5, 32, 32, 3)).astype("float32")
    y = {"boxes": np.full((5, 1, 4), (2, 1, 31, 30)), "labels": np.zeros((5, 1))}
    dataset = DetectionDataset(x, y, 2, augment=augment())
    model = build_retinanet(0)
    batches = dataset.to_tf_dataset()
    assert batches.cardinality() == 3 and dataset.epoch == 0
    history = model.fit(batches, epochs=3, verbose=0).history
    assert dataset.epoch == 3
    assert 0 < history["loss"][-1] < history["loss"][0]
    expected = DetectionDataset(x, y, 2, augment=augment(), first_epoch=3)
    for i, (images, labels) in enumerate(batches.as_numpy_iterator()):
        np.testing.assert_array_equal(images, expected[i][0])
        np.testing.assert_array_equal(labels["boxes"], expected[i][1]["boxes"])


@pytest.mark.single_backend
def test_padding_changes_no_loss_of_keras_hubs_retinanet():
    pytest.importorskip("keras_hub", reason="KerasHub is not installed")

    x = np.random.default_rng(0).uniform(size=(2, 32, 32, 3)).astype("float32")
    boxes = [np.array([[2, 1, 31, 30], [0, 4, 28, 32]])] * 2
    labels = [np.array([1, 2])] * 2
    expected, padded = (
        build_retinanet(0).evaluate(x, pad_boxes(boxes, labels, rows), verbose=0)
        for rows in (2, 7)
    )
    assert padded == pytest.approx(expected) and np.min(expected) > 1
    nothing = pad_boxes([np.zeros((0, 4))] * 2, [[]] * 2, 3)
    assert np.isfinite(build_retinanet(0).evaluate(x, nothing, verbose=0)).all()
