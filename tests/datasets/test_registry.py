"""Data sets have their published constants; CIFAR-100 itself trains a model."""

import keras
import numpy as np
import pytest

from keras_dtkd import datasets
from tests.datasets.conftest import SHAPES, write

pytest.importorskip("tensorflow")

# Mean and standard deviation of the training images, of pixels scaled to [0, 1].
PUBLISHED = {
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "fashion_mnist": (0.2860, 0.3530),
}


def first_batch(dataset):
    return next(dataset.as_numpy_iterator())


@pytest.mark.parametrize("name", PUBLISHED)
def test_images_are_normalized_with_the_published_constants(tmp_path, name):
    mean, std = PUBLISHED[name]
    _, (images, labels) = write(tmp_path, name)
    train, test = getattr(datasets, name)(8, data_dir=tmp_path, seed=0)
    x, y = first_batch(test)
    np.testing.assert_allclose(x, (images / 255 - mean) / std, atol=2e-6)
    np.testing.assert_array_equal(y, labels)
    assert first_batch(train)[0].shape == (8, *SHAPES[name])
    assert int(train.cardinality()) == 3


def test_training_images_are_augmented_by_default(tmp_path):
    (images, _), _ = write(tmp_path, "cifar100")
    plain = (images / 255 - PUBLISHED["cifar100"][0]) / PUBLISHED["cifar100"][1]

    def fraction_unchanged(**options):
        train, _ = datasets.cifar100(20, data_dir=tmp_path, seed=0, **options)
        distance = abs(first_batch(train)[0][:, None] - plain).max(axis=(2, 3, 4))
        return (distance.min(axis=1) < 1e-5).mean()

    assert fraction_unchanged(augment=False) == 1
    assert fraction_unchanged() < 0.5


def test_other_normalization_constants_are_used(tmp_path):
    _, (images, _) = write(tmp_path, "cifar10")
    _, test = datasets.cifar10(data_dir=tmp_path, mean=0.5, std=(0.1, 0.2, 0.4))
    expected = (images / 255 - 0.5) / (0.1, 0.2, 0.4)
    np.testing.assert_allclose(first_batch(test)[0], expected, atol=2e-6)


def test_digits_are_scaled_to_0_1_and_not_augmented():
    pytest.importorskip("sklearn")
    train, validation, test = datasets.digits(1297, seed=0, validation=0.2)
    counts = [len(first_batch(d)[1]) for d in (train, validation, test)]
    assert counts == [1038, 259, 500]
    (x_train, _), _, _ = datasets.load_arrays("digits", validation=0.2)
    sums = np.sort(first_batch(train)[0].reshape(1038, -1).sum(axis=1))
    expected = np.sort(x_train.reshape(1038, -1).sum(axis=1, dtype="float64")) / 255
    np.testing.assert_allclose(sums, expected, rtol=1e-5)


def test_an_unknown_option_raises_before_reading():
    with pytest.raises(TypeError, match="batchsize"):
        datasets.cifar100(batchsize=3, data_dir="nowhere", download=False)


def test_augmentation_of_digits_raises():
    pytest.importorskip("sklearn")
    with pytest.raises(ValueError, match="a flipped digit is not a digit"):
        datasets.digits(augment=True)
    datasets.digits(augment=False)


def test_a_model_learns_from_cifar100(cifar100_dir):
    train, test = datasets.cifar100(data_dir=cifar100_dir, seed=0)
    images = np.concatenate([x for x, _ in test.as_numpy_iterator()])
    np.testing.assert_allclose(images.mean(axis=(0, 1, 2)), 0, atol=0.05)
    np.testing.assert_allclose(images.std(axis=(0, 1, 2)), 1, atol=0.05)
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((32, 32, 3)),
        keras.layers.Conv2D(8, 3, strides=4),
        keras.layers.Flatten(),
        keras.layers.Dense(100),
    ]
    model = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    model.fit(train.repeat(), steps_per_epoch=150, verbose=0)
    assert model.evaluate(test, verbose=0) < np.log(100) - 0.1
