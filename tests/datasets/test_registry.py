"""Each data set has its published constants; CIFAR-100 itself trains a model."""

import keras
import numpy as np
import pytest

from keras_dtkd import datasets
from tests.datasets.conftest import SHAPES, write

pytest.importorskip("tensorflow")

# Mean and deviation of the training images, of pixels from 0 to 1.
PUBLISHED = {
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "fashion_mnist": (0.2860, 0.3530),
}


def first(dataset):
    return next(dataset.as_numpy_iterator())


@pytest.mark.parametrize("name", PUBLISHED)
def test_is_normalised_as_published(tmp_path, name):
    mean, std = PUBLISHED[name]
    _, (images, labels) = write(tmp_path, name)
    train, test = getattr(datasets, name)(8, data_dir=tmp_path, seed=0)
    x, y = first(test)
    np.testing.assert_allclose(x, (images / 255 - mean) / std, atol=2e-6)
    np.testing.assert_array_equal(y, labels)
    assert first(train)[0].shape == (8, *SHAPES[name])
    assert int(train.cardinality()) == 3


def test_augments_unless_told_not_to(tmp_path):
    (images, _), _ = write(tmp_path, "cifar100")
    plain = (images / 255 - PUBLISHED["cifar100"][0]) / PUBLISHED["cifar100"][1]

    def untouched(**options):
        train, _ = datasets.cifar100(20, data_dir=tmp_path, seed=0, **options)
        distance = abs(first(train)[0][:, None] - plain).max(axis=(2, 3, 4))
        return (distance.min(axis=1) < 1e-5).mean()

    assert untouched(augment=False) == 1
    assert untouched() < 0.5


def test_the_constants_of_another_teacher_are_taken(tmp_path):
    _, (images, _) = write(tmp_path, "cifar10")
    _, test = datasets.cifar10(data_dir=tmp_path, mean=0.5, std=(0.1, 0.2, 0.4))
    expected = (images / 255 - 0.5) / (0.1, 0.2, 0.4)
    np.testing.assert_allclose(first(test)[0], expected, atol=2e-6)


def test_digits_are_from_0_to_1_and_not_augmented():
    pytest.importorskip("sklearn")
    train, validation, test = datasets.digits(1297, seed=0, validation=0.2)
    counts = [len(first(d)[1]) for d in (train, validation, test)]
    assert counts == [1038, 259, 500]
    (x_train, _), _, _ = datasets.load_arrays("digits", validation=0.2)
    found = np.sort(first(train)[0].reshape(1038, -1).sum(axis=1))
    expected = np.sort(x_train.reshape(1038, -1).sum(axis=1, dtype="float64")) / 255
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_an_unknown_option_is_refused_before_reading():
    with pytest.raises(TypeError, match="batchsize"):
        datasets.cifar100(batchsize=3, data_dir="nowhere", download=False)


def test_cifar100_itself_trains_a_model(cifar100_dir):
    train, validation, test = datasets.cifar100(
        data_dir=cifar100_dir, seed=0, validation=0.1
    )
    counts = [int(dataset.cardinality()) for dataset in (train, validation, test)]
    assert counts == [704, 79, 157]
    labels = np.concatenate([y for _, y in train.as_numpy_iterator()])
    holdout = np.concatenate([y for _, y in validation.as_numpy_iterator()])
    both = np.bincount(labels) + np.bincount(holdout)
    np.testing.assert_array_equal(both, np.full(100, 500))
    images = np.concatenate([x for x, _ in test.as_numpy_iterator()])
    np.testing.assert_allclose(images.mean(axis=(0, 1, 2)), 0, atol=0.02)
    np.testing.assert_allclose(images.std(axis=(0, 1, 2)), 1, atol=0.02)
    layers = [
        keras.Input((32, 32, 3)),
        keras.layers.Conv2D(8, 3, strides=4),
        keras.layers.Flatten(),
        keras.layers.Dense(100),
    ]
    model = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    model.fit(train, epochs=2, steps_per_epoch=100, verbose=0)
    assert model.evaluate(validation, verbose=0) < np.log(100) - 0.2


def test_digits_are_never_augmented():
    pytest.importorskip("sklearn")
    with pytest.raises(ValueError, match="a flipped digit is none"):
        datasets.digits(augment=True)
    datasets.digits(augment=False)
