"""The published CIFAR-100 teacher, converted, classifies the test images."""

from pathlib import Path

import pytest

from keras_dtkd import models

pytest.importorskip("PIL")

DATA = Path(__file__).parents[3] / "shared/data/cifar100"
pytestmark = pytest.mark.skipif(
    not (DATA / "test.npz").exists(), reason="CIFAR-100 is not in ../shared/data."
)


def test_its_accuracy_is_about_79_percent():
    from benchmarks.cifar100_shards import load

    teacher = models.get("resnet32x4", data_format="channels_last")
    models.load_sequential_npz(teacher, DATA / "teacher-resnet32x4-fp16.npz")
    x, y = load(DATA / "test.npz", 100)
    accuracy = (teacher.predict(x, batch_size=50, verbose=0).argmax(-1) == y).mean()
    assert 0.67 <= accuracy <= 0.9
