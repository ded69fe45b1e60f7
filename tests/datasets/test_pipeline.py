"""Each epoch has every image once, with its label; seeds make epochs reproducible."""

import keras
import numpy as np
import pytest

from keras_dtkd.datasets import from_arrays
from keras_dtkd.datasets.arrays import split_validation

tf = pytest.importorskip("tensorflow")

COUNT, SIZE = 200, 12
# The pixels of an image equal its number, from 1; 0 is the padding.
IMAGES = np.full((COUNT, SIZE, SIZE, 1), 1, "uint8")
IMAGES *= np.arange(1, COUNT + 1, dtype="uint8")[:, None, None, None]
LABELS = np.arange(1, COUNT + 1) % 7
TRAIN, TEST = (IMAGES, LABELS), (IMAGES[:50], LABELS[:50])


def pixels(**options):
    """Datasets whose pixels stay between 0 and 255, for easy comparison."""
    options = {"augment": True, "seed": 3, "batch_size": 32, **options}
    return from_arrays(TRAIN, TEST, std=1 / 255, **options)


def epoch(dataset):
    """All images and labels of an epoch."""
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def all_equal(a, b):
    return all(np.array_equal(u, v) for u, v in zip(a, b, strict=True))


@pytest.mark.parametrize("augment", [True, False])
def test_an_epoch_has_every_image_once_with_its_label(augment):
    train, _ = pixels(augment=augment)
    for _ in range(2):
        images, labels = epoch(train)
        numbers = images.max(axis=(1, 2, 3)).round().astype(int)
        assert sorted(numbers) == list(range(1, COUNT + 1))
        assert (numbers != np.arange(1, COUNT + 1)).mean() > 0.9
        np.testing.assert_array_equal(labels, numbers % 7)


def test_the_cardinality_is_known_and_the_last_batch_is_smaller():
    train, test = pixels()
    for dataset, batches, last in ((train, 7, 8), (test, 2, 18)):
        assert int(dataset.cardinality()) == batches
        sizes = [len(labels) for _, labels in dataset.as_numpy_iterator()]
        assert sizes == [32] * (batches - 1) + [last]
    images, labels = next(train.as_numpy_iterator())
    assert images.dtype == "float32" and labels.dtype == "int32"


def crop_parameters(images):
    """Row and column where each crop of a ramp begins, and whether it is flipped."""
    center = images[:, SIZE // 2, SIZE // 2]
    flips = images[:, SIZE // 2, SIZE // 2 + 1, 1] < center[:, 1]
    row = center[:, 0] - 1 - SIZE // 2 + 4
    column = center[:, 1] - 1 - np.where(flips, SIZE - 1 - SIZE // 2, SIZE // 2) + 4
    return row.round().astype(int), column.round().astype(int), flips


def test_crops_are_uniform_and_half_are_flipped():
    ramp = np.stack(np.meshgrid(range(SIZE), range(SIZE), indexing="ij"), -1) + 1
    count = 81 * 200
    images = np.broadcast_to(ramp.astype("uint8"), (count, *ramp.shape))
    arrays = (images, np.zeros(count))
    train, _ = from_arrays(arrays, arrays, 1024, True, seed=0, std=1 / 255)
    row, column, flips = crop_parameters(epoch(train)[0])
    cells = np.zeros((9, 9, 2), int)
    np.add.at(cells, (row, column, flips.astype(int)), 1)
    # Five standard deviations of a count of 100.
    assert abs(cells - 100).max() < 50
    # The sum of squares has 161 degrees of freedom; its own deviation is 18.
    assert 161 - 5 * 18 < ((cells - 100) ** 2 / 100).sum() < 161 + 5 * 18


def test_the_padding_is_black_before_normalization():
    white = (np.full((64, 8, 8, 3), 255, "uint8"), np.zeros(64))
    mean, std = np.array([0.5, 0.4, 0.3]), np.array([0.2, 0.25, 0.3])
    train, _ = from_arrays(white, white, 64, True, seed=0, mean=mean, std=std)
    images = epoch(train)[0].reshape(-1, 3)
    black = np.isclose(images, -mean / std, atol=1e-6).all(-1)
    assert np.isclose(images, (1 - mean) / std, atol=1e-6).all(-1)[~black].all()
    # At most 4 of 8 rows and columns are black: at least a quarter is white.
    assert 0.3 < black.mean() < 0.6


def test_normalization_is_the_formula_in_both_data_formats():
    rng = np.random.default_rng(0)
    arrays = (rng.integers(0, 256, (9, 5, 6, 3), dtype="uint8"), np.arange(9))
    mean, std = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
    expected = (arrays[0] / 255 - mean) / std
    for data_format in ("channels_last", "channels_first"):
        train, test = from_arrays(
            arrays, arrays, 4, seed=0, mean=mean, std=std, data_format=data_format
        )
        for dataset in (train, test):
            images, labels = epoch(dataset)
            if data_format == "channels_first":
                images = np.moveaxis(images, 1, -1)
            np.testing.assert_allclose(images, expected[labels], atol=2e-6)


def test_lists_equal_arrays():
    expected = pixels(validation=0.1)[1]
    lists = tuple(part.tolist() for part in TRAIN)
    dataset = from_arrays(lists, TEST, 32, validation=0.1, std=1 / 255)[1]
    assert all_equal(epoch(dataset), epoch(expected))


def test_soft_labels_are_unchanged():
    soft = np.random.default_rng(0).random((COUNT, 7), "float32")
    train, test = from_arrays((IMAGES, soft), (IMAGES, soft), seed=0, std=1 / 255)
    np.testing.assert_array_equal(epoch(test)[1], soft)
    images, labels = epoch(train)
    numbers = images[:, 0, 0, 0].round().astype(int)
    np.testing.assert_array_equal(labels, soft[numbers - 1])


def test_the_test_set_keeps_its_order_and_pixels():
    _, test = pixels()
    for _ in range(2):
        assert all_equal(epoch(test), TEST)


def test_epochs_differ_in_order_and_crops():
    train, _ = pixels()
    first, second = epoch(train), epoch(train)
    order = [images.max(axis=(1, 2, 3)) for images, _ in (first, second)]
    assert (order[0] != order[1]).mean() > 0.9
    black = [
        (images == 0).mean(axis=(1, 2, 3))[np.argsort(numbers)]
        for (images, _), numbers in zip((first, second), order, strict=True)
    ]
    assert (black[0] != black[1]).mean() > 0.5


def test_the_seed_alone_determines_an_epoch():
    keras.utils.set_random_seed(1)
    first, other = epoch(pixels()[0]), epoch(pixels(seed=4)[0])
    keras.utils.set_random_seed(2)
    assert all_equal(first, epoch(pixels()[0]))
    assert not all_equal(first, other)


def test_without_a_seed_the_keras_seed_determines_it():
    def run(seed):
        keras.utils.set_random_seed(seed)
        return epoch(pixels(seed=None)[0])

    assert all_equal(run(1), run(1)) and not all_equal(run(1), run(2))


def test_64_bit_seeds_differ():
    seeds = (5, 5 + 2**32, 2**62)
    epochs = [epoch(pixels(seed=seed)[0]) for seed in seeds]
    assert not all_equal(epochs[0], epochs[1]) and not all_equal(epochs[1], epochs[2])


def test_first_epoch_continues_an_uninterrupted_run():
    train, _ = pixels()
    epochs = [epoch(train) for _ in range(4)]
    continued, _ = pixels(first_epoch=2)
    assert all_equal(epoch(continued), epochs[2])
    assert all_equal(epoch(continued), epochs[3])


@pytest.mark.parametrize("batch_size", [8, 100, 199])
def test_peeking_at_the_first_batch_changes_nothing(batch_size):
    expected = epoch(pixels(batch_size=batch_size)[0])
    train, _ = pixels(batch_size=batch_size)
    for _ in range(3):
        next(iter(train))
    list(train.take(1))
    assert all_equal(epoch(train), expected)


def model():
    layers = [
        keras.Input((SIZE, SIZE, 1)),
        keras.layers.Flatten(),
        keras.layers.Dense(7, kernel_initializer=keras.initializers.GlorotUniform(0)),
    ]
    network = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.SGD(1e-5, momentum=0.9), loss)
    return network


class EpochLosses(keras.callbacks.Callback):
    """Records the loss of each epoch, which depends on the batches and their order."""

    def on_train_begin(self, logs=None):
        self.losses = []

    def on_epoch_end(self, epoch, logs=None):
        self.losses.append(logs["loss"])


def test_fit_counts_each_epoch_once():
    """Keras peeks at a batch before fitting and starts passes that it drops."""
    train, test = pixels()
    model().fit(train, validation_data=test, epochs=3, verbose=0)
    assert all_equal(epoch(train), epoch(pixels(first_epoch=3)[0]))


def test_a_stopped_run_continues_bit_for_bit(tmp_path):
    straight, all_losses = model(), EpochLosses()
    straight.fit(pixels()[0], epochs=4, verbose=0, callbacks=[all_losses])
    stopped, before, after = model(), EpochLosses(), EpochLosses()
    stopped.fit(pixels()[0], epochs=2, verbose=0, callbacks=[before])
    stopped.save(tmp_path / "stopped.keras")
    loaded = keras.models.load_model(tmp_path / "stopped.keras")
    train, _ = pixels(first_epoch=2)
    loaded.fit(train, initial_epoch=2, epochs=4, verbose=0, callbacks=[after])
    assert before.losses + after.losses == all_losses.losses
    assert all_equal(loaded.get_weights(), straight.get_weights())
    wrong = keras.models.load_model(tmp_path / "stopped.keras")
    wrong.fit(pixels()[0], initial_epoch=2, epochs=4, verbose=0)
    assert not all_equal(wrong.get_weights(), straight.get_weights())


def test_a_distiller_peeks_without_consuming_batches():
    from keras_dtkd import Distiller

    train, test = pixels()
    distiller = Distiller(model(), model())
    logs = distiller.fit(train, validation_data=test, epochs=2, verbose=0).history
    assert len(logs["loss"]) == 2 and np.isfinite(logs["loss"]).all()
    assert all_equal(epoch(train), epoch(pixels(first_epoch=2)[0]))


def test_epochs_are_counted_within_the_scope_of_a_strategy():
    if keras.config.backend() != "tensorflow":
        pytest.skip("strategies are TensorFlow's")
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        train, _ = pixels()
        model().fit(train, epochs=2, verbose=0)
    assert all_equal(epoch(train), epoch(pixels(first_epoch=2)[0]))


def test_the_validation_images_are_fixed_and_in_no_other_set():
    numbers = []
    for seed in (1, 2):
        train, validation, test = pixels(validation=0.1, seed=seed)
        assert all_equal(epoch(test), TEST)
        images, labels = epoch(validation)
        numbers.append(images[:, 0, 0, 0])
        np.testing.assert_array_equal(labels, numbers[-1] % 7)
        training = epoch(train)[0].max(axis=(1, 2, 3))
        assert sorted([*training, *numbers[-1]]) == list(range(1, COUNT + 1))
    np.testing.assert_array_equal(*numbers)
    assert len(numbers[0]) == 20 and (np.diff(numbers[0]) > 0).all()
    # They must never change, whatever a library changes.
    indices = np.arange(20)
    (_, (held_out, _)) = split_validation((indices, indices), 0.25)
    np.testing.assert_array_equal(held_out, [1, 8, 10, 18, 19])


def test_tensorflow_hides_gpus_on_other_backends(monkeypatch):
    hidden = []
    monkeypatch.setattr(
        tf.config, "set_visible_devices", lambda *arguments: hidden.append(arguments)
    )
    pixels()
    assert set(map(str, hidden)) == (
        set() if keras.config.backend() == "tensorflow" else {"([], 'GPU')"}
    )
