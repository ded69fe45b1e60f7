"""Fixed versions of images: a stored teacher's answers belong to what was seen."""

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.datasets import digits, from_arrays
from keras_dtkd.losses import KD
from keras_dtkd.teachers import Stored, store
from tests.tiny_models import close

tf = pytest.importorskip("tensorflow")

COUNT, VERSIONS = 50, 3
IMAGES = np.random.default_rng(0).integers(1, 255, (COUNT, 12, 12, 1)).astype("uint8")
LABELS = np.arange(COUNT)
TRAIN = (IMAGES, LABELS)


def made(**options):
    options = {"seed": 3, "augment": True, "versions": VERSIONS, **options}
    return from_arrays(TRAIN, TRAIN, 16, **options)


def passed(dataset):
    x, y = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(x), np.concatenate(y)


def epoch(train):
    """Images, rows and labels of a pass."""
    x, y = zip(*train.as_numpy_iterator(), strict=True)
    images = np.concatenate([part["inputs"] for part in x])
    return images, np.concatenate([part["rows"] for part in x]), np.concatenate(y)


def test_what_is_seen_lies_where_the_row_says():
    every, train, _ = made()
    images, labels = passed(every)
    assert len(images) == VERSIONS * COUNT and len(every) == VERSIONS * 4
    assert train.element_spec[0]["rows"].shape.as_list() == [None]
    for number in range(2 * VERSIONS):
        seen, rows, y = epoch(train)
        np.testing.assert_array_equal(seen, images[rows])
        np.testing.assert_array_equal(y, labels[rows])
        version = number % VERSIONS
        expected = np.arange(COUNT) + version * COUNT
        np.testing.assert_array_equal(np.sort(rows), expected)
        assert (rows != expected).any()


def test_versions_differ():
    images, labels = passed(made()[0])
    images = images.reshape(VERSIONS, COUNT, -1)
    np.testing.assert_array_equal(labels, np.tile(LABELS, VERSIONS))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (images[one] != images[other]).any(-1).mean() > 0.9


def test_versions_are_the_same_whatever_the_seed_and_the_order_is_not():
    first, second = made(seed=0), made(seed=1)
    np.testing.assert_array_equal(passed(first[0])[0], passed(second[0])[0])
    assert (epoch(first[1])[1] != epoch(second[1])[1]).any()


def test_a_first_epoch_is_that_of_a_run_without_a_break():
    _, train, _ = made()
    for _ in range(4):
        epoch(train)
    _, continued, _ = made(first_epoch=4)
    for one, other in zip(epoch(train), epoch(continued), strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_augmentation_there_is_the_image_itself():
    every, train, test = made(augment=False, versions=1)
    np.testing.assert_array_equal(passed(every)[0], passed(test)[0])
    seen, rows, _ = epoch(train)
    np.testing.assert_array_equal(seen, passed(test)[0][rows])


def test_held_out_images_are_as_ever():
    *_, validation, test = made(validation=0.2)
    *_, expected, same = made(validation=0.2, versions=None)
    for one, other in ((validation, expected), (test, same)):
        np.testing.assert_array_equal(passed(one)[0], passed(other)[0])


def test_no_version_is_refused():
    with pytest.raises(ValueError, match="`versions` must be at least 1"):
        made(versions=0)


def test_answers_to_fewer_versions_are_refused_before_the_first_step():
    answers = Stored(np.zeros((2 * COUNT, COUNT), "float32"), head="logits")
    shape = [keras.Input((12, 12, 1)), keras.layers.Flatten()]
    student = keras.Sequential([*shape, keras.layers.Dense(COUNT)])
    before = student.get_weights()
    distiller = Distiller(answers, student, KD())
    with pytest.raises(ValueError, match="for 100 rows, and the data asks for 150"):
        distiller.fit(made()[1], epochs=3, verbose=0)
    for weight, now in zip(before, student.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, now)


def test_a_stored_teacher_teaches_as_the_live_one(tmp_path):
    """Both see the same images, since one is asked in each step."""
    pytest.importorskip("sklearn")

    def network(width):
        keras.utils.set_random_seed(width)
        dense = [keras.layers.Dense(width, "relu"), keras.layers.Dense(10)]
        return keras.Sequential(
            [keras.Input((8, 8, 1)), keras.layers.Flatten(), *dense]
        )

    large, students = network(16), []
    for live in (True, False):
        every, train, test = digits(64, seed=0, versions=2)
        given = large if live else store(large, every, tmp_path, verbose=0)
        students.append(network(8))
        distiller = Distiller(given, students[-1], KD())
        distiller.compile(
            "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
        distiller.fit(train, epochs=2, verbose=0, shuffle=False, validation_data=test)
    assert close(*students, tolerance=1e-5)
