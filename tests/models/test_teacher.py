"""The hosted CIFAR-100 teacher, converted, knows the test images."""

from pathlib import Path

import pytest

from keras_dtkd import models

pytest.importorskip("PIL")

DATA = Path(__file__).parents[3] / "shared/data/cifar100"
pytestmark = pytest.mark.skipif(
    not (DATA / "test.npz").exists(), reason="CIFAR-100 is not in ../shared/data."
)


def test_it_is_right_in_about_79_of_100():
    from benchmarks.cifar100_shards import images

    teacher = models.get("resnet32x4", data_format="channels_last")
    models.load_sequential_npz(teacher, DATA / "teacher-resnet32x4-fp16.npz")
    x, y = images(DATA / "test.npz", 100)
    right = (teacher.predict(x, batch_size=50, verbose=0).argmax(-1) == y).mean()
    assert 0.67 <= right <= 0.9
